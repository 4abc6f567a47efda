"""Views pass the network one by one or together."""

from __future__ import annotations

import torch
from torch import Tensor

from rectified_lpjepa.networks import Features, features_of_views, features_with_crops


def in_batch(images: Tensor) -> Features:
    """What depends on the batch, as behind a batch normalisation: each image less the mean of those it came with."""
    centred = (images - images.mean(0)).flatten(1)
    return Features(centred, 2 * centred, 3 * centred)


def test_each_view_is_a_batch_of_its_own_and_joint_views_are_one() -> None:
    views = torch.rand(3, 4, 2, 5, 5, dtype=torch.float64)
    each = features_of_views(in_batch, views, "each")
    torch.testing.assert_close(each.encoder, (views - views.mean(1, keepdim=True)).flatten(2))
    torch.testing.assert_close(each.projector, 3 * each.encoder)
    joint = features_of_views(in_batch, views, "joint")
    torch.testing.assert_close(joint.encoder, (views - views.mean((0, 1))).flatten(2))
    torch.testing.assert_close(joint.preactivations, 2 * joint.encoder)


def test_crops_come_after_the_views_and_pass_by_themselves() -> None:
    views, crops = torch.rand(2, 4, 1, 3, 3), torch.rand(3, 4, 1, 3, 3)
    for passes in ("each", "joint"):
        alone = features_of_views(in_batch, views, passes)
        of_crops = features_of_views(in_batch, crops, passes)
        features, all_views = features_with_crops(in_batch, views, crops, passes)
        assert all(torch.equal(a, b) for a, b in zip(features, alone, strict=True))
        assert torch.equal(all_views, torch.cat((alone.projector, of_crops.projector)))
        assert features_with_crops(in_batch, views, None, passes)[1].shape == (2, 4, 9)

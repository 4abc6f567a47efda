"""Backbones of every family: shapes, stems, starts, local crops, and what is refused."""

from dataclasses import asdict

import pytest
import torch
import torchvision
from torch import nn

from rectified_lpjepa.networks import Backbone

TINY_RESNET = {"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 64]}
TINY_VIT = {"patch_size": 4, "depth": 2, "embed_dim": 24, "num_heads": 2}
TINY_CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 16, 32, 64]}

FAMILIES = {
    "resnet": Backbone("resnet18", kwargs=TINY_RESNET),
    "resnet with small-image stem": Backbone("resnet18", small_stem_stride=1, kwargs=TINY_RESNET),
    "bottleneck resnet": Backbone("resnet50", small_stem_stride=1, kwargs=TINY_RESNET),
    "vit": Backbone("vit_small_patch16_224", kwargs=TINY_VIT),
    "vit with average pooling": Backbone("vit_small_patch16_224", kwargs={**TINY_VIT, "global_pool": "avg"}),
    "convnext": Backbone("convnext_small", kwargs=TINY_CONVNEXT),
    "wide head": Backbone("mobilenetv3_small_050"),  # its pooled features are wider than its last feature map
}


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_builds_and_all_its_parameters_get_gradients(family, in_channels):
    torch.manual_seed(0)
    encoder = FAMILIES[family].build(32, in_channels)
    features = encoder(torch.randn(2, in_channels, 32, 32))
    assert features.shape == (2, encoder.num_features)
    features.square().sum().backward()
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("backbone", "image_size", "num_features"),
    [
        (Backbone("resnet18"), 224, 512),
        (Backbone("resnet18", small_stem_stride=1), 32, 512),
        (Backbone("resnet50"), 224, 2048),
        (Backbone("resnet50", small_stem_stride=1), 32, 2048),
        (Backbone("vit_small_patch16_224"), 224, 384),
        (Backbone("vit_small_patch16_224"), 96, 384),
        (Backbone("vit_small_patch16_224", kwargs={"patch_size": 4}), 32, 384),
        (Backbone("convnext_small"), 224, 768),
        (Backbone("convnext_small", kwargs={"patch_size": 2}), 32, 768),
        (Backbone("swin_tiny_patch4_window7_224"), 64, 768),
    ],
)
def test_full_sizes_build(backbone, image_size, num_features):
    with torch.device("meta"):  # shapes without memory and without arithmetic
        encoder = backbone.build(image_size).eval()
        assert encoder.num_features == num_features
        assert encoder(torch.empty(1, 3, image_size, image_size)).shape == (1, num_features)


def test_resnet18_is_torchvisions():
    torch.manual_seed(0)
    reference = torchvision.models.resnet18()
    reference.fc = nn.Identity()
    encoder = Backbone("resnet18").build(64)
    encoder.model.load_state_dict(reference.state_dict(), strict=True)
    images = torch.randn(4, 3, 64, 64)
    for mode in (True, False):
        assert torch.allclose(encoder.train(mode)(images), reference.train(mode)(images), atol=1e-6)


def test_the_last_norm_of_a_resnet_block_starts_at_one_unless_asked_otherwise():
    norm = Backbone(kwargs=TINY_RESNET).build(32).model.layer1[0].bn2
    assert torch.equal(norm.weight, torch.ones(8))
    norm = Backbone(kwargs={**TINY_RESNET, "zero_init_last": True}).build(32).model.layer1[0].bn2
    assert torch.equal(norm.weight, torch.zeros(8))


def test_the_small_image_stem_keeps_the_resolution_and_starts_like_the_other_convolutions():
    torch.manual_seed(0)
    model = Backbone("resnet18", small_stem_stride=1).build(32, in_channels=1).model
    stem = model.maxpool(model.conv1(torch.randn(2, 1, 32, 32)))
    assert stem.shape == (2, 64, 32, 32)
    assert model.conv1.bias is None
    # Kaiming's variance: 2 / fan-out, of 64 filters of 3×3.
    assert model.conv1.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)


def test_weights_follow_the_seed():
    def build(seed):
        torch.manual_seed(seed)
        return torch.cat(
            [p.flatten() for p in Backbone(small_stem_stride=1, kwargs=TINY_RESNET).build(32).parameters()]
        )

    assert torch.equal(build(0), build(0))
    assert not torch.equal(build(0), build(1))


def test_state_dicts_carry_timms_keys():
    keys = Backbone(kwargs=TINY_RESNET).build(32).state_dict()
    assert "model.conv1.weight" in keys
    assert "model.layer4.0.bn2.running_mean" in keys


def test_settings_are_plain():
    backbone = Backbone("resnet18", kwargs=TINY_RESNET)
    assert Backbone(**asdict(backbone)) == backbone


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (2, 3, 32, 40), (2, 1, 32, 32), (3, 32, 32)])
@pytest.mark.parametrize("family", ["resnet", "vit"])
def test_images_of_another_shape_are_refused(family, shape):
    encoder = FAMILIES[family].build(32)
    with pytest.raises(ValueError, match=r"built for images of shape \(B, 3, 32, 32\) and got \(" + str(shape[0])):
        encoder(torch.zeros(shape))


def test_an_unknown_name_is_refused_with_near_ones():
    with pytest.raises(ValueError, match=r"no architecture 'resnet_18'. Near names: .*\bresnet18\b"):
        Backbone("resnet_18")
    with pytest.raises(ValueError, match=r"no architecture '¿'. timm.list_models\(\)"):
        Backbone("¿")


def test_a_name_that_asks_for_pretrained_weights_is_refused():
    with pytest.raises(ValueError, match=r"no architecture 'resnet18.a1_in1k'. Near names: .*\bresnet18\b"):
        Backbone("resnet18.a1_in1k")
    with pytest.raises(ValueError, match=r"pretrained.*from scratch"):
        Backbone("resnet18", kwargs={"pretrained": True})


def test_what_the_data_decide_cannot_be_set():
    with pytest.raises(ValueError, match=r"img_size.*the data's"):
        Backbone("vit_small_patch16_224", kwargs={"img_size": 224})


def test_an_unknown_argument_is_named():
    with pytest.raises(TypeError, match=r"cannot build 'resnet18'.*width"):
        Backbone("resnet18", kwargs={"width": 3}).build(32)


@pytest.mark.parametrize(("image_size", "patch_size"), [(32, 5), (8, 16), (30, 16)])
def test_patches_that_do_not_tile_the_image_are_refused(image_size, patch_size):
    backbone = Backbone("vit_small_patch16_224", kwargs={**TINY_VIT, "patch_size": patch_size})
    with pytest.raises(
        ValueError, match=f"patches of {patch_size}×{patch_size} .* images of {image_size}×{image_size}"
    ):
        backbone.build(image_size)


def test_the_small_image_stem_is_for_plain_resnets():
    with pytest.raises(ValueError, match="for ResNets, and 'convnext_small' is none"):
        Backbone("convnext_small", small_stem_stride=1)
    with pytest.raises(ValueError, match="'resnet18d' starts with several"):
        Backbone("resnet18d", small_stem_stride=1).build(32)


DYNAMIC_VIT = Backbone("vit_small_patch16_224", kwargs=TINY_VIT | {"dynamic_img_size": True})


@pytest.mark.parametrize(
    "backbone",
    [FAMILIES["resnet with small-image stem"], FAMILIES["convnext"], DYNAMIC_VIT],
    ids=["resnet", "convnext", "vit"],
)
def test_local_crops_are_taken_beside_the_images(backbone):
    """Whether it is built for them or not, the weights, and what comes of images, are the same."""
    outputs = []
    for local_size in (None, 32):
        torch.manual_seed(0)
        encoder = backbone.build(64, local_size=local_size)
        outputs.append((encoder(torch.ones(2, 3, 64, 64)), torch.get_rng_state()))
    assert all(torch.equal(one, other) for one, other in zip(*outputs, strict=True))
    assert encoder.training
    assert all(module.training for module in encoder.modules())
    assert encoder(torch.ones(2, 3, 32, 32)).shape == (2, encoder.num_features)
    with pytest.raises(ValueError, match=r"\(B, 3, 64, 64\) and local crops of 32×32 pixels and got \(2, 3, 16, 16\)"):
        encoder(torch.ones(2, 3, 16, 16))
    with pytest.raises(ValueError, match=r"and got \(2, 1, 32, 32\)"):
        encoder(torch.ones(2, 1, 32, 32))


def test_looking_at_a_local_crop_leaves_no_trace_in_running_statistics():
    model = FAMILIES["resnet"].build(32, local_size=16).model
    assert int(model.bn1.num_batches_tracked) == 0
    assert torch.equal(model.bn1.running_mean, torch.zeros_like(model.bn1.running_mean))


@pytest.mark.parametrize(
    ("backbone", "local_size", "message"),
    [
        (FAMILIES["vit"], 16, r"built for images of 32×32, takes no local crops of 16×16.*HINT: .*dynamic_img_size"),
        (DYNAMIC_VIT, 14, "patches of 4×4 pixels, which do not tile images of 14×14"),
        (FAMILIES["convnext"], 8, r"takes no local crops of 8×8 .*HINT"),
    ],
    ids=["vit of one size", "vit patches", "convnext with nothing left"],
)
def test_local_crops_that_a_backbone_cannot_take_are_refused(backbone, local_size, message):
    with pytest.raises(ValueError, match=message):
        backbone.build(32, local_size=local_size)

"""What every objective promises."""

import torch

from rectified_lpjepa.objectives import Shard


def assert_processes_together_equal_one(objective, z, world_size, *, labels=None, divided=True):
    """Compare one process with the mean over several that share its batch: loss, parts and gradient.

    They share the work, too, or each does all of it.
    """
    z = z.clone().requires_grad_()
    alone = objective(z, z, seed=1, step=2, labels=labels)
    (expected,) = torch.autograd.grad(alone.loss, z)
    own_labels = [None] * world_size if labels is None else labels.chunk(world_size)
    outputs = [
        objective(
            local,
            z if objective.needs_gathering else local,
            seed=1,
            step=2,
            shard=Shard(rank, world_size) if divided else Shard(),
            labels=own,
        )
        for rank, (local, own) in enumerate(zip(z.chunk(world_size, dim=1), own_labels, strict=True))
    ]
    mean = torch.stack([output.loss for output in outputs]).mean()
    torch.testing.assert_close(mean, alone.loss)
    torch.testing.assert_close(torch.autograd.grad(mean, z)[0], expected)
    for name, value in alone.parts.items():
        torch.testing.assert_close(torch.stack([output.parts[name] for output in outputs]).mean(), value)


def assert_autocast_changes_neither_loss_nor_gradient(objective, z, *, labels=None):
    """Compare float32 features, to the last bit, with the same under autocast."""
    assert z.dtype == torch.float32
    results = []
    for enabled in (False, True):
        leaf = z.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = objective(leaf, leaf, seed=0, step=0, labels=labels)
        output.loss.backward()
        results.append((output, leaf.grad))
    (full, full_grad), (autocast, autocast_grad) = results
    assert full.loss.dtype == autocast.loss.dtype == torch.float32
    assert torch.equal(full.loss, autocast.loss)
    assert full.parts == autocast.parts
    assert torch.equal(full_grad, autocast_grad)
    assert all(part.ndim == 0 and not part.requires_grad for part in full.parts.values())

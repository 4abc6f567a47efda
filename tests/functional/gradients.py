"""The value of a function of the features, and its gradient."""

import torch


def value_and_gradient(function, z, *arguments, **options):
    leaf = z.clone().requires_grad_()
    value = function(leaf, *arguments, **options)
    value.backward()
    return value.detach(), leaf.grad


def assert_autocast_changes_nothing(function, z, *arguments, dtype=torch.bfloat16):
    """Compare value and gradient of float32 features, to the last bit, with those under autocast."""
    assert z.dtype == torch.float32
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype, enabled=enabled):
            results.append(value_and_gradient(function, z, *arguments))
    (value, gradient), (inside, gradient_inside) = results
    assert value.dtype == inside.dtype == torch.float32
    assert torch.equal(value, inside)
    assert torch.equal(gradient, gradient_inside)

import pytest
import torch

from rectified_lpjepa.networks import RECTIFIERS, rectify


@pytest.mark.parametrize("name", ["relu", "rep_relu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_forward_pass_is_relu_to_the_last_bit(name, dtype):
    x = (3 * torch.randn(10_000, generator=torch.Generator().manual_seed(0))).to(dtype)
    rectified = rectify(x, name)
    assert rectified.dtype == dtype
    assert torch.equal(rectified, x.clamp_min(0))
    assert (rectified == 0).any()


def test_none_changes_nothing():
    x = torch.randn(7)
    assert rectify(x, "none") is x


def test_the_gradient_of_rep_relu_is_that_of_gelu():
    x = torch.linspace(-4, 4, 101, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(rectify(x, "rep_relu").sum(), x)
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    value = x.detach()
    assert torch.allclose(gradient, normal.cdf(value) + value * normal.log_prob(value).exp())
    assert (gradient[value < 0] != 0).all()


def test_relu_has_no_gradient_where_it_is_off():
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(rectify(x, "relu").sum(), x)
    assert gradient.tolist() == [0.0, 1.0]


def test_an_unknown_rectifier_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no rectifier 'gelu'.*relu, rep_relu, none"):
        rectify(torch.zeros(1), "gelu")
    assert set(RECTIFIERS) == {"relu", "rep_relu", "none"}

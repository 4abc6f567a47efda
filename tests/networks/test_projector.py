import pytest
import torch
from torch import nn

from rectified_lpjepa.networks import Projector


def test_the_layers_are_those_of_the_paper():
    projector = Projector(hidden_dim=5, out_dim=3).build(7)
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert [type(layer) for layer in projector] == kinds
    assert [tuple(layer.weight.shape) for layer in projector if isinstance(layer, nn.Linear)] == [
        (5, 7),
        (5, 5),
        (3, 5),
    ]
    assert all(layer.bias is not None for layer in projector if isinstance(layer, nn.Linear))


def test_features_are_not_rectified_and_all_parameters_learn():
    torch.manual_seed(0)
    projector = Projector(hidden_dim=16, out_dim=8).build(4)
    features = projector(torch.randn(32, 4))
    assert features.shape == (32, 8)
    assert features.min() < 0
    features.square().sum().backward()
    assert all(parameter.grad is not None for parameter in projector.parameters())


@pytest.mark.parametrize("widths", [{"hidden_dim": 0}, {"out_dim": -1}])
def test_a_width_below_one_is_refused(widths):
    ((name, width),) = widths.items()
    with pytest.raises(ValueError, match=rf"Projector\({name}={width}\) must be at least 1"):
        Projector(**widths)

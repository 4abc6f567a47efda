"""The projector's layers, as the paper and SimCLR have them."""

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


def test_the_head_of_simclr_has_one_hidden_layer_and_no_batch_norm():
    projector = Projector(hidden_dim=5, out_dim=3, hidden_layers=1, batch_norm=False).build(7)
    assert [type(layer) for layer in projector] == [nn.Linear, nn.ReLU, nn.Linear]
    x = torch.randn(4, 7)
    first, _, last = projector
    expected = (x @ first.weight.T + first.bias).clamp_min(0) @ last.weight.T + last.bias
    torch.testing.assert_close(projector(x), expected)


def test_without_hidden_layers_it_is_linear():
    (layer,) = Projector(hidden_dim=5, out_dim=3, hidden_layers=0).build(7)
    assert (layer.in_features, layer.out_features) == (7, 3)


def test_features_are_not_rectified_and_all_parameters_learn():
    torch.manual_seed(0)
    projector = Projector(hidden_dim=16, out_dim=8).build(4)
    features = projector(torch.randn(32, 4))
    assert features.shape == (32, 8)
    assert features.min() < 0
    features.square().sum().backward()
    assert all(parameter.grad is not None for parameter in projector.parameters())


@pytest.mark.parametrize(
    ("name", "value", "least"), [("hidden_dim", 0, 1), ("out_dim", -1, 1), ("hidden_layers", -1, 0)]
)
def test_what_is_too_small_is_refused(name, value, least):
    with pytest.raises(ValueError, match=rf"Projector\({name}={value}\) must be at least {least}"):
        Projector(**{name: value})

"""Logistic regression equals scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from rectified_lpjepa.functional.logistic_regression import fit_logistic_regression


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
def test_equals_scikit_learn(penalty: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(150, 8, generator=generator, dtype=torch.float64)
    labels = (x[:, :4] + torch.randn(150, 4, generator=generator)).argmax(dim=1)
    weight, bias = fit_logistic_regression(x, labels, 4, penalty, tolerance=1e-8)
    reference = LogisticRegression(C=1 / penalty, max_iter=2000, tol=1e-10).fit(x.numpy(), labels.numpy())
    np.testing.assert_allclose(weight.numpy(), reference.coef_, atol=1e-4)
    # A number that is added to all biases changes nothing.
    np.testing.assert_allclose(
        (bias - bias.mean()).numpy(), reference.intercept_ - reference.intercept_.mean(), atol=1e-4
    )


def test_a_class_without_samples_is_never_guessed() -> None:
    x, labels = torch.eye(4).repeat(5, 1), torch.tensor([0, 1, 3, 0]).repeat(5)
    weight, bias = fit_logistic_regression(x, labels, 5)
    assert (x @ weight.T + bias).argmax(1).tolist() == labels.tolist()


def test_it_works_where_gradients_are_switched_off() -> None:
    with torch.no_grad():
        weight, _ = fit_logistic_regression(torch.eye(2), torch.arange(2), 2)
    assert weight[0, 0] > 0
    assert not weight.requires_grad

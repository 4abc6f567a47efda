"""The linear probe: the optimum of logistic regression, chosen on held-out samples, tested on others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from subjects import FakeSubject, clusters

from rectified_lpjepa.evaluation.features import FeatureSet
from rectified_lpjepa.evaluation.heads import LinearHeads
from rectified_lpjepa.evaluation.linear import linear, stratified
from rectified_lpjepa.evaluation.mlp import train_mlp
from rectified_lpjepa.evaluation.scaling import Standardizer

SPREAD = 1.6
CPU = torch.device("cpu")


def subject(**arguments: object) -> FakeSubject:
    train, test = clusters(400, 8, dim=20, spread=SPREAD), clusters(300, 8, dim=20, spread=SPREAD, seed=1)
    return FakeSubject(train, test, **arguments)


@pytest.mark.parametrize("kind", ["encoder", "projector"])
def test_agrees_with_scikit_learns_logistic_regression(kind: str) -> None:
    fake = subject()
    found = linear(fake, lrs=[0.3], weight_decays=[0.01], min_steps=600)
    train, test = fake.features("train"), fake.features("test")
    x, test_x = train.kinds()[kind].numpy(), test.kinds()[kind].numpy()
    mean, scale = x.mean(0), x.std(0)
    x, test_x = (x - mean) / scale, (test_x - mean) / scale
    reference = LogisticRegression(C=1 / (0.01 * len(x)), max_iter=1000, tol=1e-8).fit(x, train.labels.numpy())
    expected = log_loss(test.labels.numpy(), reference.predict_proba(test_x))
    assert found.metrics[f"{kind}/linear/loss"] == pytest.approx(expected, rel=5e-3)
    accuracy = reference.score(test_x, test.labels.numpy())
    assert found.metrics[f"{kind}/linear/top1"] == pytest.approx(accuracy, abs=0.011)
    top5 = np.argsort(reference.predict_proba(test_x), axis=1)[:, -5:] == test.labels.numpy()[:, None]
    assert found.metrics[f"{kind}/linear/top5"] == pytest.approx(top5.any(1).mean(), abs=0.011)


def test_each_head_is_what_torchs_sgd_makes_of_it() -> None:
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(32, 5, generator=generator), torch.arange(32) % 3
    lrs, decays, steps = [0.05, 0.5, 0.5], [0.0, 0.1, 0.0], 6
    heads = LinearHeads(5, 3, lrs, decays, steps, CPU)
    for step in range(steps):
        heads.step(x[step::2], labels[step::2])
    for head, (lr, decay) in enumerate(zip(lrs, decays, strict=True)):
        plain = torch.nn.Linear(5, 3)
        torch.nn.init.zeros_(plain.weight)
        torch.nn.init.zeros_(plain.bias)
        groups = [{"params": [plain.weight], "weight_decay": decay}, {"params": [plain.bias]}]
        sgd = torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, steps)
        for step in range(steps):
            sgd.zero_grad()
            torch.nn.functional.cross_entropy(plain(x[step::2]), labels[step::2]).backward()
            sgd.step()
            cosine.step()
        torch.testing.assert_close(heads.weight_FGC[:, head].T, plain.weight.detach(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(heads.bias_GC[head], plain.bias.detach(), rtol=1e-4, atol=1e-6)
        loss = torch.nn.functional.cross_entropy(plain(x), labels).detach()
        assert float(heads.measure(x, labels)["loss"][head]) == pytest.approx(float(loss), rel=1e-4)


def test_a_head_that_diverges_leaves_the_others_alone_and_is_not_chosen() -> None:
    found = linear(subject(), lrs=[0.1, 1e30], weight_decays=[1.0])
    assert found.protocol["chosen"]["encoder/linear"] == {"lr": 0.1, "weight_decay": 1.0}
    worst = found.details["encoder/linear"][1]
    assert (worst["holdout_top1"], worst["holdout_loss"]) == (0.0, float("inf"))
    assert found.metrics["encoder/linear/top1"] > 0.3


def test_the_choice_is_made_without_the_test_samples() -> None:
    train, test = (clusters(400, 8, dim=20, spread=SPREAD, seed=seed, projector=False) for seed in (0, 1))
    other = replace(test, encoder=-test.encoder, labels=test.labels.flip(0))
    first, second = linear(FakeSubject(train, test)), linear(FakeSubject(train, other))
    assert first.protocol["chosen"] == second.protocol["chosen"]
    assert first.details == second.details
    assert first.metrics != second.metrics
    grid = first.details["encoder/linear"]
    chosen = first.protocol["chosen"]["encoder/linear"]
    best = max(grid, key=lambda point: (point["holdout_top1"], -point["holdout_loss"]))
    assert chosen == {key: best[key] for key in ("lr", "weight_decay")}


def test_it_learns_from_fresh_views_in_each_epoch() -> None:
    draws = [
        [clusters(400, 8, dim=20, spread=SPREAD, seed=10 * draw + view) for view in range(2)] for draw in range(12)
    ]
    found = linear(subject(views=draws), epochs=12, augmented=True)
    # Views that are independent samples of the same clusters are so many more training samples.
    assert found.metrics["encoder/linear_augmented/loss"] < found.metrics["encoder/linear/loss"]
    assert found.metrics["encoder/linear_augmented/top1"] > found.metrics["encoder/linear/top1"] - 0.02
    assert {"encoder/linear", "encoder/linear_augmented", "projector/linear", "projector/linear_augmented"} == set(
        found.details
    )


def test_the_mlp_learns_what_is_not_linear() -> None:
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(600, 2, generator=generator)
    labels = (plane[:, 0] * plane[:, 1] > 0).long()
    x = plane @ torch.randn(2, 32, generator=generator)
    data = FeatureSet(x[:400], labels[:400], 2), FeatureSet(x[400:], labels[400:], 2)
    found = linear(FakeSubject(*data), mlp=True, batch_size=64).metrics
    assert found["encoder/mlp/top1"] > 0.85
    assert found["encoder/linear/top1"] < 0.65


def test_the_mlp_is_that_of_the_protocol() -> None:
    network = train_mlp(torch.randn(6, 10), torch.arange(6) % 2, 2, [torch.arange(6)], seed=0)
    assert [tuple(layer.weight.shape) for layer in network if isinstance(layer, torch.nn.Linear)] == [
        (15, 10),
        (15, 15),
        (2, 15),
    ]
    assert [type(layer).__name__ for layer in network] == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear"]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.floats(0.01, 0.9))
def test_the_held_out_part_is_stratified(sizes: list[int], share: float) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    if max(sizes) == 1:
        with pytest.raises(ValueError, match="only one of its class"):
            stratified(labels, share, 0)
        return
    held = stratified(labels, share, 0)
    for label, size in enumerate(sizes):
        count = int(held[labels == label].sum())
        assert count == (0 if size == 1 else min(max(1, round(share * size)), size - 1))


def test_features_that_never_vary_are_left_at_zero() -> None:
    features = torch.tensor([[1.0, 0.1, 0.0], [3.0, 0.1, 0.0], [5.0, 0.1, 0.0]])
    torch.testing.assert_close(Standardizer.of(features)(features)[:, 1:], torch.zeros(3, 2), rtol=0, atol=1e-8)
    torch.testing.assert_close(Standardizer.of(features)(features)[:, 0], torch.tensor([-1.0, 0.0, 1.0]) * 1.5**0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lrs": []}, "Learning rates are positive"),
        ({"weight_decays": [-1.0]}, "weight decays at least 0"),
        ({"holdout": 1.0}, "between 0 and 1"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        linear(subject(), **options)


def test_one_class_and_constant_features() -> None:
    one = FeatureSet(torch.randn(20, 3), torch.zeros(20, dtype=torch.int64), 2)
    with pytest.raises(ValueError, match="two classes or more"):
        linear(FakeSubject(one, one))
    constant = FeatureSet(torch.ones(20, 3), torch.arange(20) % 2, 2)
    assert linear(FakeSubject(constant, constant)).metrics["encoder/linear/top1"] == 0.5

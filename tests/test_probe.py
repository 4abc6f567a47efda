"""The linear probe, online and offline, against torchmetrics and logistic regression."""

import pytest
import torch
from lightning.pytorch import LightningModule
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from tiny_jepa import quiet_trainer
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from rectified_lpjepa.networks import Backbone, Projector, rectify
from rectified_lpjepa.probe import LinearProbe, OnlineProbes


def test_the_loss_is_the_mean_over_views_of_the_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    logits_VBC = torch.randn(2, 6, 4, generator=generator)
    labels_B = torch.tensor([0, 1, 2, 3, 0, 1])
    log_probabilities = logits_VBC.log_softmax(-1)
    per_view = [-log_probabilities[view, torch.arange(6), labels_B].mean() for view in range(2)]
    assert torch.allclose(LinearProbe.loss(logits_VBC, labels_B), sum(per_view) / 2)
    assert torch.allclose(LinearProbe.loss(logits_VBC[0], labels_B), per_view[0])


@pytest.mark.parametrize("num_classes", [3, 12])
def test_accuracies_count_over_all_batches(num_classes):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, num_classes, generator=generator)
    labels = torch.randint(num_classes, (50,), generator=generator)
    probe = LinearProbe(4, num_classes)
    for part in (slice(0, 40), slice(40, 50)):
        probe.train_means.update(probe.accuracies(logits[part], labels[part]), weight=len(labels[part]))
    order = logits.argsort(dim=1, descending=True)
    hits = {f"top{k}": float((order[:, :k] == labels[:, None]).any(1).double().mean()) for k in (1, 5)}
    assert {name: float(value) for name, value in probe.train_means.compute().items()} == pytest.approx(hits)
    assert 0 < hits["top1"] < hits["top5"]


@pytest.mark.parametrize("num_classes", [3, 12])
def test_accuracies_equal_those_of_torchmetrics_over_views(num_classes):
    generator = torch.Generator().manual_seed(0)
    logits_VBC = torch.randn(2, 50, num_classes, generator=generator)
    labels = torch.randint(num_classes, (50,), generator=generator)
    measured = LinearProbe.accuracies(logits_VBC, labels)
    assert set(measured) == {"top1", "top5"}
    for k in (1, 5):
        accuracy = MulticlassAccuracy(num_classes, top_k=min(k, num_classes), average="micro")
        accuracy.update(logits_VBC.flatten(0, 1), labels.repeat(2))
        assert float(measured[f"top{k}"]) == pytest.approx(float(accuracy.compute()))


def test_a_probe_without_opinion_is_not_right():
    assert LinearProbe.accuracies(torch.zeros(20, 10), torch.arange(20) % 10)["top1"] == 0.1


def test_a_step_never_waits_for_the_device():
    # Tensors on the meta device have no values: whatever asks for one fails.
    probe = LinearProbe(4, 10).to("meta")
    logits, labels = probe(torch.empty(2, 8, 4, device="meta")), torch.empty(8, dtype=torch.int64, device="meta")
    probe.train_means.update(probe.accuracies(logits, labels), weight=8)
    assert probe.loss(logits, labels).shape == ()


def gradients(with_probes):
    torch.manual_seed(0)
    backbone = Backbone(small_stem_stride=1, kwargs={"layers": [1, 1, 1, 1], "channels": [4, 8, 8, 8]}).build(16)
    projector = Projector(hidden_dim=8, out_dim=8).build(backbone.num_features)
    images, labels = torch.randn(6, 3, 16, 16), torch.tensor([0, 1, 2, 0, 1, 2])
    encoded = backbone(images)
    z = rectify(projector(encoded), "relu")
    loss = z.square().mean() - z.mean()
    probes = [LinearProbe(8, 3), LinearProbe(8, 3)]
    if with_probes:
        loss = loss + sum(LinearProbe.loss(probe(f), labels) for probe, f in zip(probes, (encoded, z), strict=True))
    loss.backward()
    return [p.grad for part in (backbone, projector) for p in part.parameters()], [
        p for q in probes for p in q.parameters()
    ]


def test_probes_leave_the_gradients_of_the_model_bit_identical():
    without, _ = gradients(with_probes=False)
    with_, parameters = gradients(with_probes=True)
    assert all(torch.equal(a, b) for a, b in zip(without, with_, strict=True))
    assert any((gradient != 0).any() for gradient in without)
    assert all((parameter.grad != 0).any() for parameter in parameters)


class Parent(LightningModule):
    def __init__(self, width):
        super().__init__()
        self.save_hyperparameters({"width": width})
        self.probe = LinearProbe(width, 3)


def test_a_probe_within_a_parent_adds_nothing_to_its_checkpoint_but_weights():
    parent = Parent(4)
    assert parent.hparams == {"width": 4}
    assert set(parent.state_dict()) == {"probe.classifier.weight", "probe.classifier.bias"}


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    features, labels = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[:1400], order[1400:]
    return (features[train], labels[train]), (features[test], labels[test])


def test_offline_it_is_as_good_as_logistic_regression(digits, tmp_path):
    train, test = digits
    reference = (
        LogisticRegression(max_iter=300).fit(*(part.numpy() for part in train)).score(*(p.numpy() for p in test))
    )

    torch.manual_seed(0)
    probe = LinearProbe(64, 10, lr=0.5)
    limits = {"limit_train_batches": None, "limit_val_batches": None, "num_sanity_val_steps": 0}
    trainer = quiet_trainer(tmp_path, max_epochs=20, check_val_every_n_epoch=20, **limits)
    order = torch.Generator().manual_seed(0)
    trainer.fit(
        probe,
        DataLoader(TensorDataset(*train), batch_size=100, shuffle=True, generator=order),
        DataLoader(TensorDataset(*test), batch_size=100),
    )
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert set(metrics) == {f"{split}/{name}" for split in ("train", "val") for name in ("loss", "top1", "top5")}
    assert metrics["val/top1"] == pytest.approx(reference, abs=0.02)
    with torch.no_grad():
        logits = probe(test[0])
    assert metrics["val/top1"] == pytest.approx(float((logits.argmax(1) == test[1]).float().mean()))
    assert metrics["val/loss"] == pytest.approx(float(LinearProbe.loss(logits, test[1])), rel=1e-5)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)

    trainer.save_checkpoint(tmp_path / "probe.ckpt", weights_only=True)
    restored = LinearProbe.load_from_checkpoint(tmp_path / "probe.ckpt", weights_only=True)
    assert restored.lr == 0.5
    assert torch.equal(restored.classifier.weight, probe.classifier.weight)


@pytest.mark.parametrize(("arguments", "name"), [((0, 10), "in_dim=0"), ((4, 1), "num_classes=1")])
def test_impossible_sizes_are_refused(arguments, name):
    with pytest.raises(ValueError, match=rf"LinearProbe\({name}\) must be at least"):
        LinearProbe(*arguments)


def test_probes_beside_a_model_measure_each_on_its_own_features() -> None:
    probes = OnlineProbes({"encoder": 6, "projector": 4}, num_classes=7)
    features = {"encoder": torch.randn(2, 5, 6), "projector": torch.randn(2, 5, 4), "preactivations": torch.randn(1)}
    labels = torch.arange(5)
    losses, accuracies = probes.measure(features, labels)
    assert list(losses) == ["probe_encoder", "probe_projector"]
    for name in ("encoder", "projector"):
        logits = probes[name](features[name]).double().log_softmax(-1)
        expected = -logits[:, torch.arange(5), labels].mean()
        assert losses[f"probe_{name}"].item() == pytest.approx(expected.item(), rel=1e-5)
        assert accuracies[f"probe_{name}/top1"].item() == pytest.approx(
            float((logits.argmax(-1) == labels).double().mean())
        )
    assert OnlineProbes({}, num_classes=0).measure(features, labels) == ({}, {})

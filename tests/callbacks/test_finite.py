"""A loss or a parameter that is not finite ends the run with its name, before anything is saved."""

import hashlib
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from tiny_run import NAN, TinyModule, fit, tiny_trainer

from rectified_lpjepa.callbacks import FigureWriter, FiniteCheck, RunCheckpoint


def trainer_in(path, epochs=3, callbacks=(), **arguments):
    return tiny_trainer(path, [FiniteCheck(), RunCheckpoint(), *callbacks], epochs, **arguments)


def digest(path):
    return hashlib.sha256((path / "checkpoints" / "last.ckpt").read_bytes()).hexdigest()


@pytest.mark.parametrize("term", ["invariance", "rdmreg"])
@pytest.mark.parametrize("bad_step", [0, 1, 6, 7])
@pytest.mark.parametrize("every", [1, 3, 50])
def test_names_step_term_and_rates(tmp_path, term, bad_step, every):
    # The rates of the step itself: the scheduler multiplies them by 0.99 after each.
    rate = f"{1e-3 * 0.99**bad_step:.3g}"
    with pytest.raises(FloatingPointError, match=rf"'{term}' .*at step {bad_step} .*backbone {rate}, probe {rate}\)"):
        fit(trainer_in(tmp_path, log_every_n_steps=every), TinyModule(bad_step, term))


def test_the_last_good_checkpoint_stays(tmp_path):
    fit(trainer_in(tmp_path, 1), TinyModule())
    before = digest(tmp_path)
    with pytest.raises(FloatingPointError, match="step 7"):
        fit(trainer_in(tmp_path), TinyModule(7), ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert digest(tmp_path) == before
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


def test_stops_before_validation_and_figures(tmp_path):
    validated = []

    class Watch(pl.Callback):
        def on_validation_batch_start(self, trainer, *_):
            validated.append(trainer.sanity_checking)

    with pytest.raises(FloatingPointError):
        fit(trainer_in(tmp_path, callbacks=[Watch(), FigureWriter(1)], log_every_n_steps=50), TinyModule(3))
    assert validated == [True]
    assert not (tmp_path / "figures").exists()


class RuinedByItsGradient(TinyModule):
    """The loss is finite at every step, the gradient of the last step of the first epoch is not."""

    def on_before_optimizer_step(self, optimizer):
        if self.global_step == 3:
            self.map.bias.grad.fill_(float("inf"))


def test_ruined_parameters_are_not_saved(tmp_path):
    with pytest.raises(FloatingPointError, match=r"Parameter 'map.bias' is not finite after step 3"):
        fit(trainer_in(tmp_path, limit_val_batches=0, num_sanity_val_steps=0), RuinedByItsGradient())
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_a_finite_run_is_left_alone(tmp_path):
    trainer = trainer_in(tmp_path)
    fit(trainer, TinyModule())
    assert trainer.global_step == 12
    with_check = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    without = tiny_trainer(tmp_path / "without", [RunCheckpoint()], 3)
    torch.testing.assert_close(fit(without, TinyModule()).state_dict(), with_check, rtol=0, atol=0)


def outputs(device="cpu", **terms):
    return {"terms": {name: torch.tensor(value, device=device) for name, value in terms.items()}}


def stand_in(step=0):
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    numbers = {"global_step": step, "log_every_n_steps": 100, "accumulate_grad_batches": 1}
    return SimpleNamespace(optimizers=[], strategy=strategy, world_size=1, is_last_batch=False, **numbers)


def do_step(check, trainer, terms):
    batch_idx = trainer.global_step
    check.on_train_batch_start(trainer, None, None, batch_idx)
    trainer.global_step += 1
    check.on_train_batch_end(trainer, None, terms, None, batch_idx)


def test_the_term_is_named_before_the_total_and_the_first_before_later_ones():
    check, trainer = FiniteCheck(), stand_in()
    steps = [{"loss": 1.0, "rdmreg": 1.0}, {"loss": NAN, "rdmreg": float("inf")}, {"loss": NAN, "rdmreg": NAN}]
    for terms in steps:
        do_step(check, trainer, outputs(**terms))
    with pytest.raises(FloatingPointError, match="'rdmreg' is first not finite at step 1"):
        check.on_train_epoch_end(trainer, None)


def test_a_total_that_overflows_alone_is_named():
    check, trainer = FiniteCheck(), stand_in()
    do_step(check, trainer, outputs(loss=float("inf"), rdmreg=3e38))
    with pytest.raises(FloatingPointError, match="'loss' is first not finite at step 0"):
        check.on_train_epoch_end(trainer, None)


READS = ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__", "__array__")


def test_a_step_reads_nothing_from_the_device(monkeypatch):
    check, trainer = FiniteCheck(), stand_in()
    terms = outputs(loss=NAN, rdmreg=NAN)

    def refuse(*_, **__):
        raise AssertionError("a step waited for the device")

    with monkeypatch.context() as patch:
        for name in READS:
            patch.setattr(torch.Tensor, name, refuse)
        for _ in range(99):
            do_step(check, trainer, terms)
        with pytest.raises(AssertionError):  # the hundredth does look
            do_step(check, trainer, terms)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_does_not_synchronise_the_gpu():
    check, trainer = FiniteCheck(), stand_in()
    terms = outputs(device="cuda", loss=NAN, rdmreg=NAN)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(99):
            do_step(check, trainer, terms)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with pytest.raises(FloatingPointError, match="step 0"):
        check.on_train_epoch_end(trainer, None)

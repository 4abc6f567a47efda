"""Parameter groups, LARS and AdamW, warm-up and cosine, going on and forking: against the written rules."""

import io
import itertools
import math

import pytest
import torch
from torch import nn

from rectified_lpjepa.networks import Backbone
from rectified_lpjepa.optim import Optimizer, effective_lr, parameter_groups, warmup_cosine

GROUPS = [
    "weights",
    "biases_and_norms",
    "probe_encoder",
    "probe_encoder_bias",
    "probe_projector",
    "probe_projector_bias",
]


def small_model(seed=0):
    torch.manual_seed(seed)
    return {"backbone": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), "projector": nn.Linear(4, 5)}


def small_probes():
    return {"encoder": nn.Linear(4, 3), "projector": nn.Linear(5, 3)}


def build(settings, *, total_batch=256, total_steps=40, steps_per_epoch=4, seed=0):
    modules, probes = small_model(seed), small_probes()
    optimizer, scheduler = settings.build(
        modules, probes, total_batch=total_batch, total_steps=total_steps, steps_per_epoch=steps_per_epoch
    )
    return optimizer, scheduler


def set_gradients(optimizer, seed):
    generator = torch.Generator().manual_seed(seed)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.randn(parameter.shape, generator=generator)


def rates(optimizer):
    return {group["name"]: group["lr"] for group in optimizer.param_groups}


# ------------------------------------------------------------------------------------------------------- groups


def test_each_parameter_is_in_one_group_by_its_kind():
    backbone = Backbone(
        "vit_small_patch16_224", kwargs={"patch_size": 8, "depth": 1, "embed_dim": 8, "num_heads": 2}
    ).build(16)
    probes = small_probes()
    groups = {group["name"]: group["params"] for group in parameter_groups([backbone, nn.Linear(8, 2)], probes)}
    assert list(groups) == GROUPS
    assert all(parameter.ndim > 1 for parameter in groups["weights"])
    assert all(parameter.ndim == 1 for parameter in groups["biases_and_norms"])
    for name, probe in probes.items():
        (weight,), (bias,) = groups[f"probe_{name}"], groups[f"probe_{name}_bias"]
        assert weight is probe.weight
        assert bias is probe.bias
    everything = [id(p) for parameters in groups.values() for p in parameters]
    assert len(everything) == len(set(everything)) == len(list(backbone.parameters())) + 2 + 4


@pytest.mark.parametrize("name", ["lars", "adamw"])
def test_what_decays(name):
    optimizer, _ = build(Optimizer(name=name, weight_decay=0.3, warmup_epochs=0))
    decays = {group["name"]: group["weight_decay"] for group in optimizer.param_groups}
    decayed = {"weights": 0.3} if name == "lars" else {"weights": 0.3, "biases_and_norms": 0.3}
    assert decays == dict.fromkeys(GROUPS, 0.0) | decayed


def test_groups_without_parameters_are_left_out():
    optimizer, _ = Optimizer(warmup_epochs=0).build(
        {"backbone": nn.Linear(2, 2, bias=False)}, {}, total_batch=256, total_steps=3, steps_per_epoch=1
    )
    assert list(rates(optimizer)) == ["weights"]


# -------------------------------------------------------------------------------------------------------- steps


def lars_reference(weight, gradients, lr, momentum, weight_decay, *, adapted):
    """Layer-wise rate min(0.02 ‖w‖ / (‖g‖ + λ ‖w‖ + 1e-8) / lr, 1) on the decayed gradient, then SGD with momentum."""
    buffer = None
    for gradient in gradients:
        step = gradient.clone()
        if adapted:
            w, g = weight.norm().item(), gradient.norm().item()
            ratio = 0.02 * w / (g + weight_decay * w + 1e-8)
            step = min(ratio / lr, 1.0) * (gradient + weight_decay * weight)
        buffer = step if buffer is None else momentum * buffer + step
        weight = weight - lr * buffer
    return weight


@pytest.mark.parametrize("lr", [0.03, 0.0001])  # trust ratio in effect, and clipped
@pytest.mark.parametrize("weight_decay", [0.1, 0.0])
def test_lars_steps_equal_the_written_rule(lr, weight_decay):
    probe_lr = 7 * lr
    settings = Optimizer(lr=lr, probe_lr=probe_lr, weight_decay=weight_decay, warmup_epochs=0)
    optimizer, _ = build(settings)
    start = {group["name"]: [p.detach().clone() for p in group["params"]] for group in optimizer.param_groups}
    history = []
    for step in range(3):
        set_gradients(optimizer, step)
        history.append({group["name"]: [p.grad.clone() for p in group["params"]] for group in optimizer.param_groups})
        optimizer.step()  # the scheduler stands still: the rate is the peak's
    for group in optimizer.param_groups:
        name = group["name"]
        for index, parameter in enumerate(group["params"]):
            expected = lars_reference(
                start[name][index],
                [gradients[name][index] for gradients in history],
                probe_lr if name.startswith("probe") else lr,
                0.9,
                0.0 if name.startswith("probe") else weight_decay,
                adapted=name in ("weights", "probe_encoder", "probe_projector"),
            )
            assert torch.allclose(parameter, expected, rtol=1e-5, atol=1e-7), name


def test_the_trust_ratio_was_both_in_effect_and_clipped():
    optimizer, _ = build(Optimizer(warmup_epochs=0))
    set_gradients(optimizer, 0)
    ratios = {
        group["name"]: [0.02 * p.detach().norm() / p.grad.norm() for p in group["params"]]
        for group in optimizer.param_groups
    }
    assert all(0.0001 < ratio < 0.03 for ratio in ratios["weights"])
    assert all(7 * 0.0001 < ratio < 7 * 0.03 for ratio in ratios["probe_encoder"] + ratios["probe_projector"])


def test_adamw_is_torchs():
    optimizer, _ = build(Optimizer(name="adamw", lr=1e-2, weight_decay=0.3, warmup_epochs=0))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert all(group["betas"] == (0.9, 0.999) for group in optimizer.param_groups)


# ----------------------------------------------------------------------------------------------------- schedule


def test_rates_scale_with_the_total_batch():
    assert effective_lr(0.165, 128) == pytest.approx(0.0825)
    optimizer, scheduler = build(Optimizer(lr=0.165, probe_lr=0.055, warmup_epochs=0), total_batch=128)
    assert rates(optimizer) == pytest.approx(
        dict.fromkeys(GROUPS, 0.0275) | {"weights": 0.0825, "biases_and_norms": 0.0825}
    )
    assert scheduler.get_last_lr() == list(rates(optimizer).values())


@pytest.mark.parametrize("name", ["lars", "adamw"])
def test_rates_of_a_run(name):
    optimizer, scheduler = build(Optimizer(name=name, warmup_epochs=2), total_steps=40, steps_per_epoch=4)
    history = []
    for _ in range(40):
        history.append(rates(optimizer))
        optimizer.step()
        scheduler.step()
    for group, peak in (("weights", 0.03), ("probe_encoder", 0.01)):
        run = [step[group] for step in history]
        linear = [3e-5 + (peak - 3e-5) * step / 8 for step in range(8)]
        cosine = [peak * (1 + math.cos(math.pi * (step - 8) / 32)) / 2 for step in range(8, 40)]
        assert run == pytest.approx(linear + cosine, rel=1e-9)
        assert max(run) == run[8] == pytest.approx(peak)
    assert all(rate == pytest.approx(0.0, abs=1e-15) for rate in rates(optimizer).values())


def test_the_schedule_is_continuous_and_stays_at_zero():
    factors = [warmup_cosine(step, warmup_steps=10, total_steps=1000, start_factor=0.1) for step in range(1001)]
    assert factors[0] == 0.1
    assert factors[10] == 1.0
    assert max(abs(a - b) for a, b in itertools.pairwise(factors)) <= 0.09 + 1e-12
    assert factors[1000] == 0.0
    assert warmup_cosine(1003, warmup_steps=10, total_steps=1000, start_factor=0.1) == 0.0


def test_a_peak_below_the_start_of_the_warm_up_starts_at_the_peak():
    optimizer, _ = build(Optimizer(lr=1e-5, warmup_epochs=2))
    assert rates(optimizer)["weights"] == pytest.approx(1e-5)
    assert rates(optimizer)["probe_encoder"] == pytest.approx(3e-5)


@pytest.mark.parametrize("total_steps", [40, 30])
def test_a_warm_up_as_long_as_the_run_is_refused(total_steps):
    message = rf"warm-up of 10 epochs of 4 steps \(40 steps\) must be shorter than the run of {total_steps} steps"
    with pytest.raises(ValueError, match=message):
        build(Optimizer(warmup_epochs=10), total_steps=total_steps, steps_per_epoch=4)


# ------------------------------------------------------------------------------------------------ resume and fork


def state_after(settings, steps, **arguments):
    optimizer, scheduler = build(settings, **arguments)
    for step in range(steps):
        set_gradients(optimizer, step)
        optimizer.step()
        scheduler.step()
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, file)
    file.seek(0)
    return torch.load(file, weights_only=True), optimizer, scheduler


@pytest.mark.parametrize("name", ["lars", "adamw"])
def test_a_restored_run_goes_on_bit_for_bit(name):
    settings = Optimizer(name=name, warmup_epochs=2)
    _, whole, _ = state_after(settings, 12)
    state, first, _ = state_after(settings, 7)
    second, scheduler = build(settings, seed=1)
    with torch.no_grad():
        for old, new in zip(first.param_groups, second.param_groups, strict=True):
            for source, target in zip(old["params"], new["params"], strict=True):
                target.copy_(source)
    second.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    restored = rates(second)
    settings.reapply(second, scheduler, total_batch=256)  # without a change of the settings it changes nothing
    assert rates(second) == restored
    for step in range(7, 12):
        set_gradients(second, step)
        second.step()
        scheduler.step()
    for old, new in zip(whole.param_groups, second.param_groups, strict=True):
        assert old["lr"] == new["lr"]
        assert all(torch.equal(a, b) for a, b in zip(old["params"], new["params"], strict=True))


def test_a_fork_applies_its_own_settings():
    state, _, _ = state_after(Optimizer(warmup_epochs=2), 7)
    forked = Optimizer(lr=0.6, probe_lr=0.4, weight_decay=0.5, momentum=0.5, warmup_epochs=1)
    optimizer, scheduler = build(forked, total_steps=60)
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    assert optimizer.param_groups[0]["weight_decay"] == 1e-4  # the checkpoint's
    forked.reapply(optimizer, scheduler, total_batch=128)

    def expected(peak, step):
        return peak / 2 * (1 + math.cos(math.pi * (step - 4) / 56)) / 2

    assert rates(optimizer)["weights"] == pytest.approx(expected(0.6, 7))
    assert rates(optimizer)["probe_encoder"] == pytest.approx(expected(0.4, 7))
    assert scheduler.get_last_lr() == list(rates(optimizer).values())
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert [group["always_adapt"] for group in optimizer.param_groups] == [True, False] * 3
    assert all(group["momentum"] == 0.5 for group in optimizer.param_groups)
    assert all("momentum_buffer" in state for state in optimizer.state.values())
    optimizer.step()
    scheduler.step()
    assert rates(optimizer)["weights"] == pytest.approx(expected(0.6, 8))


@pytest.mark.parametrize("name", ["lars", "adamw"])
def test_without_a_rate_the_model_stays_as_it_is_and_probes_learn(name):
    optimizer, scheduler = build(Optimizer(name, lr=0.0, probe_lr=0.1, weight_decay=0.5, warmup_epochs=1))
    groups = {group["name"]: group["params"] for group in optimizer.param_groups}
    before = {name: [parameter.clone() for parameter in parameters] for name, parameters in groups.items()}
    for step in range(8):
        set_gradients(optimizer, step)
        optimizer.step()
        scheduler.step()
    for name, parameters in groups.items():
        same = [torch.equal(old, new) for old, new in zip(before[name], parameters, strict=True)]
        assert same == [not name.startswith("probe")] * len(same)


# ------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "arguments",
    [
        {"lr": -0.1},
        {"probe_lr": 0.0},
        {"lr": math.nan},
        {"probe_lr": -1.0},
        {"weight_decay": -1e-4},
        {"warmup_epochs": -1},
        {"warmup_start_lr": -1e-5},
        {"momentum": 1.0},
        {"betas": (0.9, 1.5)},
        {"name": "sgd"},
    ],
)
def test_settings_out_of_range_are_refused(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=rf"Optimizer\({name}=") as error:
        Optimizer(**arguments)
    assert str(value) in str(error.value)

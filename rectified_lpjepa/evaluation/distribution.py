"""Distribution of features: before the rectifier against generalised Gaussians, behind it against the target.

Shape suffixes: N samples, D features.
"""

from __future__ import annotations

from typing import Any

import torch
from scipy.stats import kstwo
from torch import Tensor

from rectified_lpjepa.distributions import Law
from rectified_lpjepa.evaluation.features import Evaluation, Subject
from rectified_lpjepa.evaluation.sampling import draw_positions, numbers
from rectified_lpjepa.evaluation.target_distance import largest_distance, sliced_distance
from rectified_lpjepa.functional import generalized_gaussian as gg
from rectified_lpjepa.functional.generalized_gaussian_fit import Fit, fit_generalized_gaussian
from rectified_lpjepa.functional.kolmogorov_smirnov import ks_statistic
from rectified_lpjepa.functional.randomness import keyed_generator

_LEVEL = 0.05
_NEIGHBOURS = 199
_SHOWN_UNITS = 9
_QUANTILES = 99
_FEWEST_SAMPLES = 8


def distribution(
    subject: Subject,
    fit_samples: int = 4000,
    null_draws: int = 400,
    samples: int = 10_000,
    largest_samples: int = 4000,
    directions: int = 256,
    floor_draws: int = 4,
    starts: int = 8,
    steps: int = 30,
) -> Evaluation:
    """Compare the distribution of the projector's test features with what theory asks of it.

    * ``preactivations/generalized_gaussian``: p, μ and σ by maximum likelihood for each feature before the rectifier;
      the Kolmogorov-Smirnov statistic, and the share of features rejected at the 5 % level; the active fraction that
      the fit predicts, and how far it is from the measured one. The targets are the p, μ and σ of the objective.
    * ``projector/target``, for a model with a target: the mass at zero; the Kolmogorov-Smirnov statistic of the
      positive part; the squared sliced 2-Wasserstein distance along directions that training has not seen, and the
      largest along optimised directions. The ``_floor`` of either is what two samples of the target have at the same
      number of samples.

    A fitted law is nearer to its sample than the true one, so that the usual p-values would be too large: here the
    null distribution comes from refitting samples of fitted laws (a parametric bootstrap, as Lilliefors' test). The
    positive part is compared with the target itself, whose parameters are not fitted; its p-values are exact.

    NaN: the medians of a fit where all features are constant, and of a positive part where no feature is ever positive.

    Args:
        subject: the model and its data.
        fit_samples: samples that the generalised Gaussians are fitted to at most.
        null_draws: samples of fitted laws behind the p-values.
        samples: samples behind the sliced distance at most.
        largest_samples: samples behind the largest distance at most: it is sought on half, and measured on the other.
        directions: random directions of the sliced distance, and among the candidates for the largest.
        floor_draws: pairs of target samples behind the noise floor.
        starts: candidates from which the largest distance is sought.
        steps: steps of gradient ascent of each.

    Raises:
        ValueError: the model has no projector, there are fewer than eight test samples, or an option is below one (two
            for ``floor_draws``, eight for numbers of samples).
    """
    counts = {"fit_samples": fit_samples, "samples": samples, "largest_samples": largest_samples}
    options = {"directions": directions, "floor_draws": floor_draws, "starts": starts, "steps": steps}
    for name, value in (counts | {"null_draws": null_draws} | options).items():
        least = _FEWEST_SAMPLES if name in counts else 2 if name == "floor_draws" else 1
        if value < least:
            raise ValueError(f"distribution: {name} must be at least {least}, got {value}.")
    test = subject.features("test")
    if test.preactivations is None or test.projector is None:
        raise ValueError(
            "distribution: the model has no projector, whose features are what is compared. HINT: `rank` and "
            "`independence` look at the features of any model."
        )
    if len(test) < _FEWEST_SAMPLES:
        raise ValueError(f"distribution: at least {_FEWEST_SAMPLES} test samples are needed, got {len(test)}.")
    rows = draw_positions(len(test), fit_samples, seed=subject.seed, purpose="samples for a fit")
    metrics, details = _generalized_gaussian(test.preactivations[rows], subject, null_draws)
    law = subject.law
    if law is not None:
        marginal_metrics, details["projector"] = _marginals(test.projector, law)
        common = {"directions": directions, "draws": floor_draws}
        near = sliced_distance(test.projector, law, subject, samples=samples, **common)
        far = largest_distance(
            test.projector, law, subject, samples=largest_samples, starts=starts, steps=steps, **common
        )
        found = marginal_metrics | near | far
        metrics |= {f"projector/target/{name}": value for name, value in found.items()}
    protocol = {
        "split": "test",
        "fit": "maximum likelihood for each feature before the rectifier",
        "fit_samples": len(rows),
        "fit_p_value": "Kolmogorov-Smirnov against the fitted law; null distribution: refitted samples of the "
        f"{min(_NEIGHBOURS, null_draws)} fitted laws that are nearest in p",
        "null_draws": null_draws,
        "rejected_level": _LEVEL,
        "target": "none" if law is None else repr(law),
        "positive_p_value": "Kolmogorov-Smirnov against the target given that it is positive, exact",
        "sliced": "squared sliced 2-Wasserstein distance, mean over directions and target draws",
        "sliced_samples": min(samples, len(test)),
        "largest": "squared 2-Wasserstein distance along the best direction found by gradient ascent on one half of "
        "the samples, measured on the other half; candidates: random, axis and eigen directions",
        "largest_samples": min(largest_samples, len(test)),
        **options,
        "seed": subject.seed,
    }
    return Evaluation("distribution", protocol, metrics, details)


def _generalized_gaussian(x_ND: Tensor, subject: Subject, null_draws: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Fit each feature before the rectifier, and measure how well the fit fits."""
    sorted_ND = x_ND.to(subject.device).sort(dim=0).values
    fit = fit_generalized_gaussian(sorted_ND)
    statistic_D = ks_statistic(gg.cdf(sorted_ND, *fit)).where(~fit.p.isnan(), torch.nan)
    p_value_D = _p_values(statistic_D, fit, len(x_ND), null_draws, subject)
    measured_D = (sorted_ND > 0).double().mean(0)
    fitted_D = gg.active_fraction(*fit)
    found = {
        **{f"{name}_median": float(values.nanmedian()) for name, values in fit._asdict().items()},
        "ks_median": float(statistic_D.nanmedian()),
        "ks_largest": _largest_number(statistic_D),
        "rejected": float((p_value_D < _LEVEL).double().where(~p_value_D.isnan(), torch.nan).nanmean()),
        "constant_features": float(fit.p.isnan().sum()),
        "active_fraction": float(measured_D.mean()),
        "active_fraction_fitted": float(fitted_D.nanmean()),
        "active_fraction_error": float((fitted_D - measured_D).abs().nanmean()),
    }
    if subject.law is not None:
        parameters = {"p": subject.law.p, "mu": subject.law.loc, "sigma": subject.law.scale}
        found |= {f"{name}_median_target": float(value) for name, value in parameters.items()}
    details = {
        "fits": {name: numbers(values) for name, values in fit._asdict().items()},
        "ks": numbers(statistic_D),
        "ks_p_value": numbers(p_value_D),
        "qq": _quantile_plots(sorted_ND, fit, statistic_D),
    }
    return (
        {f"preactivations/generalized_gaussian/{name}": value for name, value in found.items()},
        {"preactivations": details},
    )


def _largest_number(values: Tensor) -> float:
    values = values[~values.isnan()]
    return float(values.max()) if len(values) else float("nan")


def _p_values(statistic_D: Tensor, fit: Fit, samples: int, null_draws: int, subject: Subject) -> Tensor:
    """Rank each statistic among those of samples that were drawn from fitted laws and fitted again.

    The null distribution depends neither on location nor on scale and little on p: it is that of laws near in p.
    """
    p_value_D = torch.full_like(statistic_D, torch.nan)
    usable = (~fit.p.isnan()).nonzero().flatten()
    if not len(usable):
        return p_value_D
    # Some of the laws, or each several times, evenly over the features.
    chosen_K = torch.arange(null_draws, device=usable.device) * len(usable) // null_draws
    p_K = fit.p[usable[chosen_K]]
    generator = keyed_generator(subject.seed, "null distribution of a fit", device=p_K.device)
    null_NK = gg.sample(p_K, 0.0, 1.0, (samples, null_draws), generator=generator).sort(dim=0).values
    null_K = ks_statistic(gg.cdf(null_NK, *fit_generalized_gaussian(null_NK)))
    distance_DK = (fit.p[usable].log()[:, None] - p_K.log()[None, :]).abs()
    nearest_DK = distance_DK.topk(min(_NEIGHBOURS, null_draws), dim=1, largest=False).indices
    at_least = (null_K[nearest_DK] >= statistic_D[usable][:, None]).sum(1)
    p_value_D[usable] = (at_least + 1).double() / (nearest_DK.shape[1] + 1)
    return p_value_D


def _quantile_plots(sorted_ND: Tensor, fit: Fit, statistic_D: Tensor) -> list[dict[str, Any]]:
    """Make quantile-quantile pairs of features from the best to the worst fit."""
    order = statistic_D.argsort(stable=True)[: int((~statistic_D.isnan()).sum())]
    shown = torch.linspace(0, max(len(order) - 1, 0), min(_SHOWN_UNITS, len(order))).round().long()
    probability = torch.arange(1, _QUANTILES + 1, dtype=torch.float64) / (_QUANTILES + 1)
    return [
        {
            "unit": unit,
            "ks": numbers(statistic_D[unit]),
            "measured": numbers(sorted_ND[:, unit].cpu().double().quantile(probability)),
            "fitted": numbers(gg.icdf(probability, *(float(values[unit]) for values in fit))),
        }
        for unit in order[shown.to(order.device)].tolist()
    ]


def _marginals(z_ND: Tensor, law: Law) -> tuple[dict[str, float], dict[str, Any]]:
    """Compare the mass at zero and the positive part of each feature with the target's."""
    zero_D = (z_ND == 0).double().mean(0)
    zero_target = 1.0 - float(law.active_fraction)
    sorted_ND = z_ND.sort(dim=0).values
    positive_ND = sorted_ND > 0
    below = float(law.cdf(torch.zeros(())))
    cdf_ND = (law.cdf(sorted_ND) - below) / (1 - below)
    statistic_D = ks_statistic(cdf_ND, positive_ND)
    p_value = kstwo.sf(statistic_D.numpy(), positive_ND.sum(0).clamp(min=1).numpy())
    p_value_D = torch.from_numpy(p_value).where(~statistic_D.isnan(), torch.nan)
    metrics = {
        "mass_at_zero": float(zero_D.mean()),
        "mass_at_zero_target": zero_target,
        "mass_at_zero_error": float((zero_D - zero_target).abs().mean()),
        "ks_positive_median": float(statistic_D.nanmedian()),
        "ks_positive_largest": _largest_number(statistic_D),
        "ks_positive_rejected": float((p_value_D < _LEVEL).double().where(~p_value_D.isnan(), torch.nan).nanmean()),
        "never_positive": float((~positive_ND.any(0)).sum()),
    }
    return metrics, {"mass_at_zero": numbers(zero_D), "ks_positive": numbers(statistic_D)}

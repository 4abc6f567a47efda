"""An experiment that was never run: numbers as a sparsity sweep would give them, in the files that reports read."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import gennorm

MU = (1.0, 0.0, -1.0, -2.0, -3.0)
ACCURACY = {1.0: 0.152, 0.0: 0.155, -1.0: 0.150, -2.0: 0.128, -3.0: 0.061}
# Fraction of non-zero features and accuracy in percent, published for CIFAR-100 and a ResNet-18.
PUBLISHED = {
    2.0: {1.0: (0.872, 61.6), 0.0: (0.736, 62.1), -1.0: (0.435, 60.5), -2.0: (0.045, 54.4), -2.5: (0.029, 44.5)},
    1.0: {1.0: (0.871, 62.5), 0.0: (0.648, 62.2), -1.0: (0.351, 61.7), -2.0: (0.049, 59.1), -2.5: (0.027, 56.1)},
}
SOURCE = "arXiv 2602.01456, sweep over μ and p on CIFAR-100 with a ResNet-18, read off a plot"
FIGURES = (
    {"kind": "accuracy_over_l0", "metric": "val/probe_encoder/top1", "series": "p"},
    {"kind": "l0_over_target", "metric": "val/sparsity/l0", "series": "p"},
    {"kind": "curve", "metrics": ["val/sparsity/l0", "val/probe_encoder/top1"], "x": "mu", "series": "p"},
    {"kind": "curve", "metric": "val/sparsity/l0", "x": "mu", "where": {"p": 2.0}, "title": "ℓ0 follows μ"},
    {"kind": "convergence", "metric": "val/probe_encoder/top1", "series": "p", "where": {"mu": 0.0}},
    {"kind": "bars", "metrics": ["val/probe_encoder/top1", "val/sparsity/l0"], "where": {"p": 2.0}},
    {"kind": "spectrum", "where": {"mu": [0.0]}},
    {"kind": "qq", "where": {"p": 1.0, "mu": 0.0}},
    {"kind": "activity_per_class", "where": {"p": 2.0, "mu": 0.0}},
    {
        "kind": "entropy_over_sparsity",
        "metric": "independence/projector/independence/marginal_entropy",
        "series": "p",
    },
    {"kind": "score_histogram", "where": {"p": 2.0, "mu": -1.0}},
)
_WIDTH, _SAMPLES, _EPOCHS = 48, 1000, 8


def write_experiment(
    folder: Path,
    *,
    ps: tuple[float, ...] = (2.0, 1.0),
    mus: tuple[float, ...] = MU,
    seeds: tuple[int, ...] = (0, 1),
    **changes: Any,
) -> Path:
    """Write ``experiment.json`` and the runs of a fake experiment, and return the folder.

    Args:
        folder: of the experiment.
        ps: shapes of the target.
        mus: locations of the target.
        seeds: of each setting.
        changes: what to put in place of a part of ``experiment.json``.
    """
    points = [write_run(folder, p, mu, seed) for p in ps for mu in mus for seed in seeds]
    content = {
        "experiment": "02_sparsity",
        "number": "02",
        "title": "How sparse, and at what cost?",
        "question": "Does the measured ℓ0 follow μ and p, and where does the accuracy fall off a cliff?",
        "profile": "cpu",
        "commit": "0123abc",
        "report_commit": "4567def",
        "date": "2026-01-02T03:04:05+00:00",
        "hardware": "1 process(es) × 2 threads, x86_64",
        "command": "rectified-lpjepa experiment run 02_sparsity --profile cpu",
        "versions": {"rectified_lpjepa": "0.1.0", "torch": "2.11.0", "python": "3.11.7"},
        "varied": ["p", "mu"],
        "points": points,
        "published": [
            {
                "label": f"paper, p={p:g}, μ={mu:g}",
                "values": {"p": p, "mu": mu},
                "metrics": {"val/sparsity/l0": l0, "val/probe_encoder/top1": accuracy / 100},
                "source": SOURCE,
                "mark": "†",
                "profiles": ["cpu"],
            }
            for p, row in PUBLISHED.items()
            for mu, (l0, accuracy) in row.items()
        ],
        "columns": [
            {"metric": "val/probe_encoder/top1", "label": "encoder probe", "unit": "%"},
            {"metric": "knn/encoder/knn20_cosine/top1", "label": "encoder kNN", "unit": "%"},
            {"metric": "val/sparsity/l0", "label": "ℓ0", "unit": ""},
            {"metric": "val/features/dead_units", "label": "dead units", "unit": "%"},
        ],
        "figures": FIGURES,
        "conditions": [
            {"text": "ℓ0 rises with μ for every p", "holds": True, "measured": "p=2: mu=-3 0.02, mu=0 0.60, mu=1 0.8"},
            {"text": "ℓ0 is the one asked for, to 0.05", "holds": False, "measured": "p=2, mu=0 0.61, 0.5 asked for"},
            {"text": "past the cliff accuracy is lost", "holds": None, "measured": "undecided: one seed"},
        ],
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.json").write_text(json.dumps(content))
    return folder


def write_run(folder: Path, p: float, mu: float, seed: int) -> dict[str, Any]:
    """Write the files of a run, and return its point."""
    random = np.random.default_rng([int(4 * p), int(4 * mu) + 100, seed])
    law = gennorm(p, mu, {2.0: 2**0.5, 1.0: 2**-0.5}[p])
    target = float(law.sf(0))
    l0 = min(target + 0.45 * target * (1 - target) + 0.006, 0.99) * (1 + 0.01 * random.normal())
    accuracy = ACCURACY[mu] + (0.01 if p == 1.0 else 0) + 0.002 * random.normal()
    name = f"p={p:g},mu={mu:g},seed={seed}_0badf00d"
    run = folder / "points" / name
    metrics = {
        "val/probe_encoder/top1": accuracy,
        "val/probe_projector/top1": accuracy - 0.02,
        "val/sparsity/l0": l0,
        "val/sparsity/l0_target": target,
        "val/features/dead_units": max(0.0, -0.1 * mu - 0.1),
        "val/features/dead_units_target": 0.0,
    }
    _write_training(run, metrics, random, {"p": p, "mu": mu}, seed)
    evaluations = _evaluations(law, l0, target, random)
    for evaluation, content in evaluations.items():
        path = run / "evaluation" / f"{evaluation}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"name": evaluation, **content}))
        metrics |= {f"{evaluation}/{key}": value for key, value in content["metrics"].items()}
    remark = {
        "severity": "warning",
        "text": "The features are beyond the cliff.",
        "measured": f"ℓ0 {l0:.3f}, below 0.05",
        "advice": "Raise μ.",
    }
    return {
        "id": name,
        "label": f"p={p:g}, mu={mu:g}",
        "values": {"p": p, "mu": mu},
        "seed": seed,
        "run_dir": f"points/{name}",
        "seconds": 170.0 + seed,
        "metrics": metrics,
        "remarks": [remark] if l0 < 0.05 else [],
    }


def _write_training(
    run: Path, final: dict[str, float], random: np.random.Generator, facts: dict[str, float], seed: int
) -> None:
    (run / "csv").mkdir(parents=True, exist_ok=True)
    (run / "summary.json").write_text(json.dumps({"data": "Npz", "backbone": "resnet18", **facts}))
    (run / "result.json").write_text(
        json.dumps({"metrics": final, "epochs": _EPOCHS, "steps": 312, "seconds": 170.5, "hardware": "2 threads"})
    )
    (run / "identity.json").write_text(
        json.dumps(
            {
                "data": {"class_path": "rectified_lpjepa.data.NpzDataModule"},
                "model": {
                    "backbone": {"name": "resnet18"},
                    "objective": {"class_path": "rectified_lpjepa.objectives.RDMReg", "init_args": {}},
                },
                "seed_everything": seed,
            }
        )
    )
    with (run / "csv" / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "epoch", "step/loss", "val/probe_encoder/top1"])
        writer.writeheader()
        for epoch in range(_EPOCHS):
            writer.writerow({"step": 39 * epoch, "epoch": epoch, "step/loss": 9 - epoch / 2})
            share = 1 - 0.8 * np.exp(-epoch / 2) + 0.01 * random.normal()
            value = final["val/probe_encoder/top1"] * share
            writer.writerow({"step": 39 * epoch + 38, "epoch": epoch, "val/probe_encoder/top1": value})


def _evaluations(law: Any, l0: float, target: float, random: np.random.Generator) -> dict[str, dict[str, Any]]:
    draws = law.rvs((_SAMPLES, _WIDTH), random_state=random)
    drawn, features = np.maximum(draws, 0), np.maximum(draws + 0.3 * random.normal(size=(_SAMPLES, 1)), 0)
    spectra = [np.linalg.eigvalsh(np.cov(z.T))[::-1] for z in (features, drawn)]
    variance, ratio = float(drawn.var()), (_WIDTH / (_SAMPLES - 1)) ** 0.5
    probability = np.arange(1, 100) / 100
    fitted, measured = law.ppf(probability), np.quantile(draws, probability, axis=0)
    edges = np.linspace(-1.0, 0.0, 61)
    counts = {name: np.histogram(random.normal(-at, 0.06, 900), edges)[0] for name, at in _score_means(l0)}
    counts["errors"] = random.binomial(counts["test"], np.linspace(0.2, 0.5, 60))
    entropy = l0 * 0.9 - l0 * np.log(l0) - (1 - l0) * np.log(1 - l0)
    return {
        "knn": {"metrics": {"encoder/knn20_cosine/top1": 0.12 + 0.01 * random.normal()}, "details": {}},
        "rank": {
            "protocol": {"samples": _SAMPLES},
            "metrics": {"projector/rank/rankme": 0.9 * _WIDTH},
            "details": {
                "projector": {
                    "eigenvalues": spectra[0].tolist(),
                    "eigenvalues_target": spectra[1].tolist(),
                    "marchenko_pastur": [variance * (1 - ratio) ** 2, variance * (1 + ratio) ** 2],
                }
            },
        },
        "distribution": {
            "metrics": {"preactivations/generalized_gaussian/ks_median": 0.02},
            "details": {
                "preactivations": {
                    "fits": {"p": [1.5 + 0.01 * unit for unit in range(_WIDTH)]},
                    "qq": [
                        {
                            "unit": unit,
                            "ks": 0.01 * (place + 1),
                            "fitted": fitted.tolist(),
                            "measured": (measured[:, unit] + 0.1 * place * measured[:, unit] ** 2).tolist(),
                        }
                        for place, unit in enumerate((7, 21, 3, 40, 11))
                    ],
                }
            },
        },
        "sparsity": {
            "metrics": {"projector/sparsity/l0": l0, "projector/sparsity/l0_target": target},
            "details": {"projector": {"class_l0": [None, *random.normal(l0, l0 / 10, 10).tolist()]}},
        },
        "independence": {
            "metrics": {
                "projector/independence/marginal_entropy": entropy * _WIDTH,
                "projector/independence/renyi_dimension": l0 * _WIDTH,
            },
            "details": {"projector": {"marginal_entropies": [entropy] * _WIDTH}},
        },
        "ood": {
            "metrics": {
                f"projector/l0_vs_{name}/auroc": value
                for name, value in (("noise", 0.91), ("shuffled", 0.74), ("errors", 0.56))
            },
            "details": {
                "histograms": {
                    "projector": {
                        "l0": {"edges": edges.tolist()} | {name: part.tolist() for name, part in counts.items()}
                    }
                }
            },
        },
    }


def _score_means(l0: float) -> tuple[tuple[str, float], ...]:
    return ("test", l0), ("noise", 0.6 * l0), ("shuffled", 0.8 * l0)

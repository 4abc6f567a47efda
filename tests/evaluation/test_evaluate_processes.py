"""Two processes share the work of an evaluation and find what one finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluated_run import write_run
from processes import become_one_of, run_processes

from rectified_lpjepa.evaluation.run import evaluate

EVALUATIONS: dict[str, dict[str, Any]] = {
    "knn": {"k": 5},
    "linear": {"lrs": [0.1], "weight_decays": [0.0], "epochs": 2, "min_steps": 1, "augmented": True},
}


def evaluated(checkpoint: Path, folder: Path) -> dict[str, dict[str, float]]:
    found = evaluate(checkpoint, EVALUATIONS, out=folder / "out", cache=folder / "features", accelerator="cpu")
    return {name: dict(evaluation.metrics) for name, evaluation in found.items()}


def in_two_processes(rank: int, world_size: int, checkpoint: Path, folder: Path) -> list[dict[str, dict[str, float]]]:
    become_one_of(rank, world_size)
    return [evaluated(checkpoint, folder), evaluated(checkpoint, folder)]  # the second time from what is there


@pytest.mark.timeout(300)
def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    checkpoint = write_run(tmp_path / "run", train_samples=121)

    alone = evaluated(checkpoint, tmp_path / "alone")
    together = run_processes(in_two_processes, 2, checkpoint, tmp_path / "together", timeout=200)
    for found in (result for results in together for result in results):
        assert found.keys() == alone.keys()
        for name, metrics in alone.items():
            # Batches of another size may change the last digit of a feature.
            assert found[name] == pytest.approx(metrics, abs=0.01)
    for folder in ("out", "features"):
        names = [sorted(path.name for path in (tmp_path / which / folder).iterdir()) for which in ("alone", "together")]
        assert names[0] == names[1]
    for path in (tmp_path / "alone" / "features").iterdir():
        with np.load(path) as first, np.load(tmp_path / "together" / "features" / path.name) as second:
            assert first["indices"].tolist() == second["indices"].tolist()
            np.testing.assert_allclose(first["encoder"], second["encoder"], rtol=1e-4, atol=1e-5)

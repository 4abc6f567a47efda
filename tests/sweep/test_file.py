"""The sweep file: its points, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser
from sweeps import MU, P, write_sweep

from rectified_lpjepa.sweep.file import read_sweep
from rectified_lpjepa.sweep.yaml_file import read_mapping


def test_points_are_combined_with_the_grid_and_both_with_the_seeds(tmp_path: Path) -> None:
    file = write_sweep(
        tmp_path,
        options={"trainer.max_epochs": 3, "model.optimizer.lr": 0.1},
        points=[{P: 2.0}, {P: 1.0, "model.optimizer.lr": 0.2}],
        grid={MU: [0, -1.5], "model.rectifier": ["relu", None]},
        seeds=[4, 5],
    )
    points = read_sweep(file).expand(tmp_path)
    expected = [
        {"trainer.max_epochs": 3, "model.optimizer.lr": lr, P: p, MU: mu, "model.rectifier": rectifier}
        for p, lr in ((2.0, 0.1), (1.0, 0.2))
        for mu in (0, -1.5)
        for rectifier in ("relu", None)
        for _ in (4, 5)
    ]
    assert [point.options for point in points] == expected
    assert [point.seed for point in points] == [4, 5] * 8
    assert {point.config for point in points} == {tmp_path / "base.yaml"}


def test_a_point_may_have_seeds_of_its_own(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, points=[{P: 1.0}, {P: 2.0, "seeds": [4, 5]}], grid={}, seeds=[0])
    sweep = read_sweep(path)
    assert sweep.varied == (P,)
    assert [(point.options[P], point.seed) for point in sweep.expand(tmp_path)] == [(1.0, 0), (2.0, 4), (2.0, 5)]


def test_without_seeds_the_configuration_says_the_seed_and_a_point_may_have_a_configuration_of_its_own(
    tmp_path: Path,
) -> None:
    (tmp_path / "other.yaml").write_text("trainer: {max_epochs: 1}")
    points = read_sweep(write_sweep(tmp_path, points=[{}, {"config": "other.yaml"}])).expand(tmp_path)
    assert [(point.config.name, point.seed, point.options) for point in points] == [
        ("base.yaml", 7, {}),
        ("other.yaml", 0, {}),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"seedz": [0]}, "there is no key seedz; .*did you mean seeds"),
        ({"resources": {"gpus": 2}}, "no key resources.gpus; .*"),
        ({"resources": {"partion": "x"}}, "did you mean partition"),
        ({"seeds": 3}, r"seeds must be list\[int\], got 3"),
        ({"seeds": [True]}, r"seeds must be list\[int\]"),
        ({"grid": {MU: 0.0}}, r"grid must be dict\[str, list\[Any\]\]"),
        ({"grid": {MU: []}}, "has no values"),
        ({"grid": {MU: [0.0]}, "points": [{MU: 1.0}]}, "Both grid and points set"),
        ({"resources": {"nodes": 0}}, "nodes must be at least 1, got 0"),
        ({"resources": {"sbatch": ["account=x"]}}, "--account=vision"),
        ({"options": {"trainer.devices": 2}}, "gpus_per_node"),
        ({"options": {"seed_everything": 2}}, "set `seeds`"),
        ({"options": {"run.dir": "x"}}, "names the run directories itself"),
        ({"options": {"--model.optimizer.lr": 1}}, "without dashes"),
        ({"options": {"config": "x.yaml"}}, "own key `config`"),
        ({"options": {"seeds": [1]}}, "own key `seeds`"),
        ({"grid": {"seeds": [[1], [2]]}}, "own key `seeds`"),
        ({"points": [{"seeds": 3}]}, "must be a list of whole numbers, got 3"),
        ({"name": "a/b"}, "name must be letters"),
    ],
)
def test_a_wrong_file_is_refused_with_what_to_do(tmp_path: Path, content: dict[str, object], message: str) -> None:
    file = write_sweep(tmp_path, **content)
    with pytest.raises(ValueError, match=f"(?s)sweep.yaml: .*{message}"):
        read_sweep(file)


def test_a_missing_key_a_missing_file_and_a_file_that_is_no_mapping_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    with pytest.raises(FileNotFoundError, match=r"s\.yaml"):
        read_sweep(file)
    for text, message in (("name: x", "config is missing"), ("- 1", "a mapping"), ("a: [", "not valid YAML")):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_sweep(file)


def test_a_key_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    file = write_sweep(tmp_path)
    file.write_text(file.read_text() + "grid:\n  a.b: [1]\n  a.b: [2]\n")
    with pytest.raises(ValueError, match=r"the key a\.b occurs twice"):
        read_sweep(file)


def test_values_are_read_as_the_command_line_of_fit_reads_them(tmp_path: Path) -> None:
    text = "{a: 1e-4, b: 1.5, c: -2, d: null, e: true, f: [1, 2.5e3], g: off, i: 2024-01-01, j: .5, k: 16-mixed}"
    (tmp_path / "values.yaml").write_text(text)
    values = read_mapping(tmp_path / "values.yaml")
    parser = ArgumentParser()
    for name in values:
        parser.add_argument(f"--{name}", type=object)
    reference = parser.parse_string(text).as_dict()
    assert values == reference
    assert {name: type(value) for name, value in values.items()} == {n: type(v) for n, v in reference.items()}
    # A time limit; YAML 1.1 takes it for a number to the base of 60.
    (tmp_path / "values.yaml").write_text("time: 12:00:00")
    assert read_mapping(tmp_path / "values.yaml") == {"time": "12:00:00"} != yaml.safe_load("time: 12:00:00")

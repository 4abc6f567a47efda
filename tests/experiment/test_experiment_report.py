"""The page of an experiment: all of its numbers, and nothing that it must fetch."""

import base64
import csv
import json
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import scipy.stats
from fake_control import ENCODER, write_control
from fake_results import FIGURES, write_experiment
from html_page import Page, check_is_self_contained

from rectified_lpjepa.experiment.report import write_report

HOSTILE = "<script>alert('x')</script>\"&{{ 1 + 1 }}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = write_experiment(tmp_path_factory.mktemp("whole") / "02_sparsity" / "cpu")
    return folder, Page(write_report(folder))


def small(folder, **changes):
    """Write a small experiment without figures, unless they are asked for."""
    return write_experiment(folder, **{"ps": (2.0,), "mus": (0.0, -1.0), "figures": [], **changes})


def cells(page, label, table=0):
    return next(row for row in page.tables[table] if row[0].strip() == label)


def points_of(folder):
    return json.loads((folder / "experiment.json").read_text())["points"]


def change_point(folder, index, **metrics):
    content = json.loads((folder / "experiment.json").read_text())
    content["points"][index]["metrics"].update(metrics)
    (folder / "experiment.json").write_text(json.dumps(content))


def test_page_needs_nothing_but_itself(whole):
    folder, page = whole
    check_is_self_contained(page, folder / "report")


def test_says_question_verdicts_and_facts(whole):
    _, page = whole
    for words in (
        "How sparse, and at what cost?",
        "where does the accuracy fall off a cliff?",
        "1 of 3 conditions holds, 1 does not, 1 cannot be said",
        "✓holds: ℓ0 rises with μ for every p",
        "✗does not hold: ℓ0 is the one asked for",
        "?cannot be said: past the cliff",
        "20, 10 settings, 57 min of training",
        "0123abc",
        "4567def",
        "2026-01-02 03:04 UTC",
        "torch 2.11.0",
        "rectified-lpjepa experiment run 02_sparsity --profile cpu",
        "† read off a published plot",
    ):
        assert words in page.text.replace("\n", ""), words
    assert "‡" not in page.text


def test_table_has_mean_and_student_interval_beside_published_and_predicted(whole):
    folder, page = whole
    heads = page.tables[0][1]
    assert heads[:4] == ["ours", "published", "ours", "ours"]
    row = cells(page, "p=2, mu=0")
    runs = [point["metrics"] for point in points_of(folder) if point["values"] == {"p": 2.0, "mu": 0.0}]
    accuracies = [100 * metrics["val/probe_encoder/top1"] for metrics in runs]
    low, high = scipy.stats.t.interval(0.95, 1, np.mean(accuracies), scipy.stats.sem(accuracies))
    assert row[1].strip() == "2"
    assert row[2].strip() == f"{(low + high) / 2:.2f} ± {(high - low) / 2:.2f}"
    assert row[3].split()[0] == "62.10†"
    assert row[heads.index("predicted") + 2].strip() == "0.5000"


def test_published_results_that_were_not_run_have_rows_of_their_own(whole):
    _, page = whole
    row = cells(page, "paper, p=1, μ=-2.5")
    assert row[1].strip() == "not run"
    assert [cell.split()[0] for cell in row[2:] if cell.strip()] == ["56.10†", "0.0270†"]


def test_figures_are_in_the_page_and_beside_it(whole):
    folder, page = whole
    images = page.elements("img")
    assert len(images) == len(FIGURES) + 1  # a spectrum of each p
    for image in images:
        assert len(image["alt"]) > 40
        svg = base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,"))
        assert ET.fromstring(svg).tag.endswith("svg")
    report = folder / "report"
    assert len(list(report.glob("*.png"))) == len(list(report.glob("*.svg"))) == len(images)
    assert (report / "figure_07_spectrum_2.png").exists()
    assert "ℓ0 follows μ" in page.text
    assert "could not be drawn" not in page.text


def test_same_remarks_are_put_together(whole):
    _, page = whole
    assert page.text.count("The features are beyond the cliff.") == 1
    assert "p=1, mu=-3, seed 1: ℓ0 0.0" in page.text


def test_links_lead_to_the_runs(whole):
    folder, page = whole
    links = [link for link in page.all("href") if link.startswith("../points/")]
    assert len(links) == len(points_of(folder)) == 20


def test_summary_csv_has_every_metric(whole):
    folder, _ = whole
    with (folder / "report" / "summary.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["mu"] for row in rows] == ["1", "0", "-1", "-2", "-3"] * 2
    values = [point["metrics"]["val/sparsity/l0"] for point in points_of(folder)[:2]]
    assert float(rows[0]["val/sparsity/l0 mean"]) == pytest.approx(np.mean(values))
    half = scipy.stats.t.ppf(0.975, 1) * np.std(values, ddof=1) / math.sqrt(2)
    assert float(rows[0]["val/sparsity/l0 ±"]) == pytest.approx(half)


def test_what_conditions_compared_is_in_the_page_and_in_a_file(tmp_path):
    folder = write_control(tmp_path)
    page = Page(write_report(folder))
    check_is_self_contained(page, folder / "report")
    verdicts = json.loads((folder / "experiment.json").read_text())["conditions"]
    tolerance, cost = page.tables[1:3]
    assert tolerance[0] == ["setting", "seeds", "ℓ0 of the target", "ℓ0", "difference", "tolerance"]
    assert tolerance[3][:3] == ["p=2, active_fraction=0.1", "3", "0.1000"]
    assert tolerance[3][5] == "0.0200"
    heads = ["setting", "seed", "ℓ0 of the target", "ℓ0", "encoder probe (%)", "reference (%)", "difference (%)"]
    assert cost[0] == heads
    assert len(cost) == 1 + 16
    for row, cell in zip(cost[1:], verdicts[1]["cells"], strict=True):
        assert row[:2] == [cell["setting"], str(cell["seed"])]
        assert float(row[4]) == pytest.approx(100 * cell[ENCODER], abs=0.005)
        assert float(row[6]) == pytest.approx(float(row[4]) - float(row[5]), abs=0.011)
    with (folder / "report" / "conditions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 + 16
    assert rows[-1]["condition"] == verdicts[1]["text"]
    assert float(rows[-1]["reference"]) == verdicts[1]["cells"][-1]["reference"]
    assert rows[0]["reference"] == ""


def test_a_setting_beyond_the_curve_has_no_reference(tmp_path):
    cell = {"setting": "p=2", "seed": 0, ENCODER: 0.2, "reference": None, "difference": None}
    verdict = {"text": "no loss", "holds": None, "measured": "beyond", "metric": ENCODER, "cells": [cell]}
    page = Page(write_report(small(tmp_path, conditions=[verdict])))
    assert page.tables[1][1] == ["p=2", "0", "20.00", "", ""]


def test_a_report_is_the_same_each_time_and_old_figures_go(tmp_path):
    folder = small(tmp_path, figures=FIGURES[:2])
    first = {path.name: path.read_bytes() for path in (write_report(folder).parent).iterdir()}
    (folder / "report" / "figure_99_curve.png").write_bytes(b"of a former figure")
    second = {path.name: path.read_bytes() for path in (write_report(folder).parent).iterdir()}
    assert first == second


def test_text_from_files_is_never_markup(tmp_path):
    folder = small(
        tmp_path,
        title=HOSTILE,
        question=HOSTILE,
        hardware=HOSTILE,
        command=HOSTILE,
        conditions=[{"text": HOSTILE, "holds": True, "measured": HOSTILE}],
        columns=[{"metric": "val/probe_encoder/top1", "label": HOSTILE, "unit": "%"}],
        published=[
            {"label": HOSTILE, "values": {}, "metrics": {"val/probe_encoder/top1": 0.5}, "source": HOSTILE, "mark": "‡"}
        ],
        figures=[{"kind": "bars", "metric": "val/probe_encoder/top1", "title": HOSTILE}],
    )
    content = json.loads((folder / "experiment.json").read_text())
    content["points"][0] |= {"label": HOSTILE, "id": HOSTILE, "run_dir": "points/<b>"}
    content["points"][0]["remarks"] = [{"severity": HOSTILE, "text": HOSTILE, "measured": HOSTILE, "advice": HOSTILE}]
    (folder / "experiment.json").write_text(json.dumps(content))
    page = Page(write_report(folder))
    assert not page.elements("script")
    assert page.text.count(HOSTILE) >= 12
    check_is_self_contained(page, folder / "report")


def test_one_seed_has_no_interval_and_says_so(tmp_path):
    page = Page(write_report(small(tmp_path, seeds=(0,))))
    assert not any("±" in cell for row in page.tables[0] for cell in row)
    assert "one seed says nothing of the spread" in page.text


def test_missing_values_leave_cells_empty_and_say_how_many_there_are(tmp_path):
    folder = small(tmp_path)
    change_point(folder, 1, **{"val/probe_encoder/top1": None})
    for index in (2, 3):
        change_point(folder, index, **{"val/probe_encoder/top1": None})
    page = Page(write_report(folder))
    assert cells(page, "p=2, mu=0")[2].strip().endswith("(n = 1)")
    assert cells(page, "p=2, mu=-1")[2].strip() == ""


def test_a_metric_without_any_number_has_no_column(tmp_path):
    names = ("val/sparsity/l0", "val/nothing", "val/published", "val/undefined")
    columns = [{"metric": name, "label": name} for name in names]
    published = [{"label": "paper", "values": {}, "metrics": {"val/published": 0.5}, "source": "x", "mark": "†"}]
    folder = small(tmp_path, columns=columns, published=published, conditions=[])
    change_point(folder, 0, **{"val/undefined": None})
    page = Page(write_report(folder))
    heads = page.tables[0][0]
    assert [name for name in heads if name.startswith("val/")] == ["val/sparsity/l0", "val/published"]


def test_an_experiment_that_has_not_been_run(tmp_path):
    folder = small(tmp_path, points=[], published=[], conditions=[], figures=FIGURES)
    page = Page(write_report(folder))
    assert page.tables == []
    assert "No run is finished" in page.text
    assert "No condition was set" in page.text
    assert page.text.count("no point has been run.") == len(FIGURES)
    assert not list((folder / "report").glob("figure_*"))


@pytest.mark.parametrize(
    ("figure", "reason"),
    [
        ({"kind": "curve", "metric": "val/nothing", "x": "mu"}, "no point has val/nothing and mu"),
        ({"kind": "curve", "metric": "val/sparsity/l0"}, "a curve needs `x`"),
        ({"kind": "bars"}, "the figure bars needs `metric`"),
        ({"kind": "bars", "metrics": ["a", "b"]}, "no point has a or b"),
        ({"kind": "curve", "metric": "val/sparsity/l0", "x": "p", "series": "p"}, "several settings have p=2"),
        ({"kind": "accuracy_over_l0", "x": "nothing"}, "no point has both val/probe_encoder/top1 and nothing"),
        ({"kind": "convergence", "metric": "train/nothing"}, "no run has logged train/nothing"),
        ({"kind": "l0_over_target", "where": {"p": 1.0}}, "no point has been run of those asked for"),
        ({"kind": "qq", "where": {"mu": 0.0}}, "no run has been evaluated by `distribution`"),
    ],
)
def test_a_figure_without_its_numbers_is_named_with_the_reason(figure, reason, tmp_path):
    folder = small(tmp_path, seeds=(0,), figures=[figure])
    for path in folder.glob("points/*/evaluation/distribution.json"):
        path.unlink()
    page = Page(write_report(folder))
    assert reason in page.text
    assert not page.elements("img")


def test_a_folder_without_results(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no experiment\.json .* HINT: name the folder"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", r"experiment\.json is no JSON: .* HINT"), ('{"number": "02"}', "lacks experiment, .*points.*HINT")],
)
def test_damaged_results(text, message, tmp_path):
    (tmp_path / "experiment.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path)

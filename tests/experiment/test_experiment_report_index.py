"""The page that lists all experiments and runs of a folder."""

import json

import pytest
from fake_results import write_experiment
from html_page import Page, check_is_self_contained

from rectified_lpjepa.experiment.report import write_index, write_report


def rows(page, table):
    head, *body = page.tables[table]
    return [dict(zip(head, (cell.strip() for cell in row), strict=True)) for row in body]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    settings = {"ps": (2.0,), "mus": (0.0, -2.0), "seeds": (0,), "figures": []}
    write_report(write_experiment(root / "experiments" / "02_sparsity" / "cpu", **settings))
    write_experiment(root / "experiments" / "03_ablation" / "smoke", **settings, experiment="03 <b>", conditions=[])
    damaged = root / "experiments" / "04_directions" / "smoke"
    damaged.mkdir(parents=True)
    (damaged / "experiment.json").write_text("{")
    run = root / "run-0123"
    run.mkdir()
    (run / "identity.json").write_text('{"model": 1}')
    (next((root / "experiments" / "03_ablation").rglob("result.json"))).unlink()
    return root


@pytest.fixture(scope="module")
def page(root):
    return Page(write_index(root))


def test_page_needs_nothing_but_itself(root, page):
    check_is_self_contained(page, root)


def test_lists_experiments(page):
    good, other, damaged = rows(page, 0)
    assert good["experiment"] == "02_sparsity"
    assert (good["runs"], good["conditions that hold"], good["remarks"]) == ("2", "1 of 3", "1")
    assert other["experiment"] == "03 <b>"
    assert other["conditions that hold"] == ""
    assert damaged["title"].startswith("damaged: ")


def test_experiments_link_to_reports_or_else_to_their_folders(page):
    assert page.all("href")[:2] == [
        "experiments/02_sparsity/cpu/report/index.html",
        "experiments/03_ablation/smoke/",
    ]


def test_lists_runs_with_what_they_reached(root, page):
    found = {row["run"]: row for row in rows(page, 1)}
    assert len(found) == 5
    run = found["experiments/02_sparsity/cpu/points/p=2,mu=-2,seed=0_0badf00d"]
    metrics = json.loads((root / run["run"] / "result.json").read_text())["metrics"]
    assert run["encoder, top-1 (%)"] == f"{100 * metrics['val/probe_encoder/top1']:.2f}"
    assert run["ℓ0 of the target"] == f"{metrics['val/sparsity/l0_target']:.4f}"
    assert (run["data"], run["objective"], run["backbone"]) == ("Npz", "RDMReg", "resnet18")
    assert (run["state"], run["p"], run["μ"], run["epochs"]) == ("finished", "2", "-2", "8")
    assert found["run-0123"]["state"] == "damaged"
    assert sorted(row["state"] for row in found.values()) == ["damaged", *["finished"] * 3, "not finished"]


def test_numbers_are_sorted_by_their_values(root, page):
    cells = [cell["data-value"] for cell in page.elements("td") if cell["class"] == "number" and cell["data-value"]]
    values = [float(cell) for cell in cells]
    (result,) = root.glob("experiments/02_sparsity/cpu/points/p=2,mu=-2,seed=0_*/result.json")
    assert json.loads(result.read_text())["metrics"]["val/sparsity/l0_target"] in values


def test_each_table_can_be_sorted_and_filtered(root, page):
    inputs = page.elements("input")
    assert [one["data-table"] for one in inputs] == ["table-experiments", "table-runs"]
    assert {one["data-table"] for one in inputs} == {table["id"] for table in page.elements("table")}
    assert {label["for"] for label in page.elements("label")} == {one["id"] for one in inputs}
    heads = [head for head in page.elements("th") if head.get("scope") == "col"]
    assert all(head["aria-sort"] == "none" for head in heads)
    assert len(page.elements("button")) == len(heads)
    script = (root / "index.html").read_text().partition("<script>")[2]
    assert "sortBy(table, column" in script
    assert 'input.addEventListener("input"' in script


def test_a_folder_without_runs(tmp_path):
    page = Page(write_index(tmp_path))
    assert page.text.count("There are none.") == 2


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .* HINT"):
        write_index(tmp_path / "nothing")

"""Which points, titles and texts the figures of an experiment's file get."""

import json
from contextlib import contextmanager
from dataclasses import replace

import pytest
from fake_control import write_control
from fake_results import write_experiment

from rectified_lpjepa.experiment.intervals import Interval
from rectified_lpjepa.experiment.presentation import Column, Figure
from rectified_lpjepa.experiment.report.drawing import NothingToDrawError
from rectified_lpjepa.experiment.report.drawings import draw
from rectified_lpjepa.experiment.report.marks import looks
from rectified_lpjepa.experiment.report.quantities import Quantity, quantity
from rectified_lpjepa.experiment.report.results import Results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results.read(write_experiment(tmp_path_factory.mktemp("results"), seeds=(0,)))


def legend(drawing):
    return [text.get_text() for text in drawing.figure.legends[0].get_texts()]


@contextmanager
def changed_evaluation(results, name, change):
    """Change inside what an evaluation of every run says."""
    paths = list(results.folder.glob(f"points/*/evaluation/{name}.json"))
    former = [path.read_text() for path in paths]
    for path in paths:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    try:
        yield
    finally:
        for path, text in zip(paths, former, strict=True):
            path.write_text(text)


def test_without_series_all_that_varies_is_told_apart(results):
    (drawing,) = draw(results, Figure("curve", metric="val/sparsity/l0", x="mu"))
    assert legend(drawing) == ["p=2", "p=1", "published", "predicted"]
    assert drawing.title == "ℓ0 over mu"
    assert drawing.alt.startswith("ℓ0: p=2: 0.0")


def test_an_axis_may_say_more_than_the_short_name(results):
    (drawing,) = draw(results, Figure("curve", metric="val/sparsity/l0", x="mu", x_label="shift μ"))
    assert drawing.figure.axes[-1].get_xlabel() == "shift μ"
    assert drawing.title == "ℓ0 over shift μ"


def test_series_may_be_settings_by_what_they_are_called(results):
    series = {"flat": {"p": 1.0, "mu": [0.0, -1.0, -2.0]}, "round": {"p": 2.0}, "none": {"p": 7.0}}
    (drawing,) = draw(results, Figure("accuracy_over_l0", series=series))
    assert legend(drawing) == ["flat", "round", "published", "beyond the cliff"]
    measured = [line for axes in drawing.figure.axes for line in axes.lines if line.get_marker() in ("o", "s")]
    assert [len(line.get_xdata()) for line in measured if len(line.get_xdata())] == [3, 5]
    assert "Lines join the settings of a series" in drawing.note
    assert {line.get_linestyle() for line in measured if len(line.get_xdata())} == {"-"}
    # What is published is with the series whose setting it has.
    hollow = [line for axes in drawing.figure.axes for line in axes.lines if line.get_marker() == "D"]
    assert sorted(len(line.get_xdata()) for line in hollow) == [3, 5]


def test_what_differs_in_more_than_numbers_is_not_joined(results):
    kinds = {1.0: "relu", 2.0: "none"}
    points = [replace(one, values=one.values | {"rectifier": kinds[one.values["p"]]}) for one in results.points]
    series = {"both": {"mu": 0.0}, "one": {"rectifier": "relu", "mu": [-1.0, -2.0]}}
    (drawing,) = draw(replace(results, points=points), Figure("accuracy_over_l0", series=series))
    lines = [line for axes in drawing.figure.axes for line in axes.lines if line.get_marker() in ("o", "s")]
    assert {line.get_marker(): line.get_linestyle() for line in lines} == {"o": "None", "s": "-"}
    assert [line.get_linestyle() for line in drawing.figure.legends[0].get_lines()][:2] == ["None", "-"]


def test_how_many_settings_are_within_the_tolerance_is_said(tmp_path):
    control = Results.read(write_control(tmp_path))
    series = {"plain": {"axis_weight": None, "p": 2.0}, "ours": {"axis_weight": 0.5, "p": 2.0}}
    (drawing,) = draw(control, Figure("l0_over_target", series=series, within=0.02, relative=0.15))
    assert "plain: measured minus target lies between +0.0" in drawing.alt
    assert "ours: measured minus target lies between +0.00" in drawing.alt
    assert drawing.alt.endswith("4 of 4 within the tolerance.")


def test_settings_that_are_left_open_are_said_to_be(tmp_path):
    folder = write_experiment(tmp_path, ps=(2.0,), mus=(0.0, -1.0), seeds=(0,), varied=["p", "mu", "kind"])
    content = json.loads((folder / "experiment.json").read_text())
    content["points"][1]["values"] |= {"mu": 0.0, "kind": "eigen"}
    (folder / "experiment.json").write_text(json.dumps(content))
    (drawing,) = draw(Results.read(folder), Figure("convergence", series="kind"))
    assert legend(drawing) == ["kind not set", "eigen"]


def test_settings_of_one_series_may_lie_at_the_same_place(tmp_path):
    folder = write_experiment(tmp_path, ps=(2.0,), mus=(0.0, -1.0), varied=["p", "mu", "kind"])
    content = json.loads((folder / "experiment.json").read_text())
    first, last = content["points"][0], content["points"][-1]
    last["values"] |= {"mu": 0.0, "kind": "eigen"}  # one seed, so that it has no interval
    last["metrics"]["val/sparsity/l0_target"] = first["metrics"]["val/sparsity/l0_target"]
    (folder / "experiment.json").write_text(json.dumps(content))
    (drawing,) = draw(Results.read(folder), Figure("l0_over_target", series={"both": {"p": 2.0}}))
    assert "both: measured minus target lies between" in drawing.alt


def test_a_curve_may_run_over_a_metric(results):
    figure = Figure("curve", metric="val/probe_encoder/top1", x="knn/encoder/knn20_cosine/top1", series="p")
    (drawing,) = draw(results, figure)
    assert drawing.figure.axes[-1].get_xlabel() == "encoder kNN (%)"
    x = drawing.figure.axes[-1].lines[-1].get_xdata()
    assert list(x) == sorted(x)


def test_each_metric_has_a_figure_under_a_common_title(results):
    metrics = ["val/probe_encoder/top1", "val/probe_projector/top1"]
    first, second = draw(results, Figure("accuracy_over_l0", metrics=metrics, title="Cost"))
    assert first.title == "Cost: Encoder probe against sparsity"
    assert second.title == "Cost: Probe projector: top-1 accuracy against sparsity"


def test_published_results_stand_at_the_target_of_their_settings(results):
    (drawing,) = draw(results, Figure("l0_over_target", where={"p": 2.0}))
    hollow = next(line for line in drawing.figure.axes[0].lines if line.get_marker() == "D")
    # Those of μ = −2, −1, 0, 1; that of −2.5 was not run.
    assert list(hollow.get_xdata()) == pytest.approx([0.0228, 0.1587, 0.5, 0.8413], abs=1e-4)
    assert list(hollow.get_ydata()) == [0.045, 0.435, 0.736, 0.872]


def test_figures_of_single_models_show_the_first_settings(results):
    drawings = draw(results, Figure("spectrum"))
    assert [drawing.title.partition(", ")[2] for drawing in drawings] == [
        f"p=2, mu={mu}, seed 0" for mu in (1, 0, -1, -2)
    ]
    line = drawings[1].figure.axes[0].lines[2]
    # The variance of max(0, N(0, 1)) is .34085; the fake's is that of a draw.
    assert line.get_ydata()[0] == pytest.approx(0.341, abs=0.02)


def test_a_score_and_a_set_can_be_chosen(results):
    where = {"p": 2.0, "mu": 0.0}
    (drawing,) = draw(results, Figure("score_histogram", metric="ood/projector/l0_vs_noise/auroc", where=where))
    assert [axes.get_title("left") for axes in drawing.figure.axes] == ["noise: AUROC 0.910"]


@pytest.mark.parametrize(
    ("metric", "what"),
    [
        ("ood/projector/l0_vs_photo_patches/auroc", "l0 of the projector against photo_patches"),
        ("ood/projector/msp_vs_errors/auroc", "msp of the projector against errors"),
        ("ood/encoder/l0_vs_noise/auroc", "l0 of the encoder against noise"),
    ],
)
def test_a_set_score_or_feature_that_was_not_measured_is_said_to_be_missing(results, metric, what):
    with pytest.raises(NothingToDrawError, match=f"`ood` has not measured {what}"):
        draw(results, Figure("score_histogram", metric=metric))


def test_independence_is_called_by_its_name():
    found = quantity("independence/projector/independence/nhsic", [])
    assert found.label == "independence projector independence: normalised HSIC"


def test_a_collapsed_model_has_no_spectrum(results):
    def collapse(content):
        found = content["details"]["projector"]
        found["eigenvalues"] = [0.0] * len(found["eigenvalues"])

    nothing = "every eigenvalue of the projector's covariance is zero"
    with changed_evaluation(results, "rank", collapse), pytest.raises(NothingToDrawError, match=nothing):
        draw(results, Figure("spectrum"))


def test_errors_are_told_from_the_other_test_samples(results):
    (drawing,) = draw(results, Figure("score_histogram", where={"p": 2.0, "mu": 0.0}))
    counts = results.evaluation(results.points[1], "ood")["details"]["histograms"]["projector"]["l0"]
    density = drawing.figure.axes[2].patches[0].get_data().values
    right = [test - error for test, error in zip(counts["test"], counts["errors"], strict=True)]
    width = counts["edges"][1] - counts["edges"][0]
    assert list(density) == pytest.approx([number / sum(right) / width for number in right])


def test_numbers_that_are_not_defined(results):
    def undefined(content):
        content["metrics"] = dict.fromkeys(content["metrics"])
        content["details"].get("preactivations", {})["qq"] = []
        content["details"]["projector"] = {}

    with changed_evaluation(results, "ood", undefined):
        assert "AUROC nan" in draw(results, Figure("score_histogram"))[0].figure.axes[0].get_title("left")
    for kind, evaluation in (("qq", "distribution"), ("activity_per_class", "sparsity")):
        nothing = pytest.raises(NothingToDrawError, match=f"`{evaluation}`")
        with changed_evaluation(results, evaluation, undefined), nothing:
            draw(results, Figure(kind))


def test_entropy_is_left_out_where_independence_was_not_measured(tmp_path):
    folder = write_experiment(tmp_path, ps=(2.0,), mus=(0.0,), seeds=(0,))
    for path in folder.glob("points/*/evaluation/independence.json"):
        path.unlink()
    with pytest.raises(NothingToDrawError, match="no point has both"):
        draw(Results.read(folder), Figure("entropy_over_sparsity"))


@pytest.mark.parametrize(
    ("metric", "axis"),
    [
        ("val/probe_encoder/top1", "the encoder (%)"),
        ("knn/encoder/knn20_cosine/top1", "knn encoder knn20 cosine: top-1 accuracy (%)"),
        ("val/sparsity/l0", "active fraction ℓ0"),
        ("rank/projector/rank/rankme", "rank projector rank: rankme"),
    ],
)
def test_metrics_have_names(metric, axis):
    assert quantity(metric, [Column("val/probe_encoder/top1", "the encoder", "%")]).axis == axis


@pytest.mark.parametrize(
    ("unit", "mean", "text"),
    [
        ("%", Interval(0.1512, 0.0127, 2), "15.12 ± 1.27"),
        ("%", Interval(0.1512, None, 1), "15.12"),
        ("", Interval(0.9088, 0.00012, 3), "0.9088 ± 0.0001"),
        ("", Interval(0.0, None, 1), "0.0000"),
        ("", Interval(123456.0, 789.0, 2), "1.23e+05 ± 789"),
        ("", Interval(2e-5, None, 1), "2e-05"),
    ],
)
def test_numbers_are_written_to_the_same_place(unit, mean, text):
    assert Quantity("m", "m", unit).shown_interval(mean) == text


def test_as_many_series_as_an_experiment_has_look_each_its_own_way() -> None:
    assert len(set(looks(12))) == 12


@pytest.mark.parametrize(("settings", "figures"), [(18, 1), (19, 2)])
def test_more_bars_than_a_page_holds_are_a_figure_for_each_metric(results, settings, figures):
    (one, *_) = results.points
    points = [replace(one, values={"mu": float(number)}, label=f"setting {number}") for number in range(settings)]
    metrics = ["val/probe_encoder/top1", "val/sparsity/l0"]
    drawings = draw(replace(results, points=points, published=[]), Figure("bars", metrics=metrics))
    assert [len(drawing.figure.axes) for drawing in drawings] == [2 // figures] * figures
    assert drawings[0].title == ("Encoder probe and ℓ0" if figures == 1 else "Encoder probe")

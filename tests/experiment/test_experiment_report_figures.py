"""The figures of a report can be read, and show the numbers that they are given."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from legible import assert_fits_a_column, shown_texts

from rectified_lpjepa.experiment.presentation import FIGURES
from rectified_lpjepa.experiment.report import feature_figures, figures
from rectified_lpjepa.experiment.report.drawings import KINDS, _rgn_entropy
from rectified_lpjepa.experiment.report.feature_figures import Panel, Unit
from rectified_lpjepa.experiment.report.figures import Bar, pareto_front
from rectified_lpjepa.experiment.report.marks import Series
from rectified_lpjepa.plots import MEASURED, PREDICTED

MU = [-2.0, -1.0, 0.0]
L0 = [0.03, 0.2, 0.6]
SERIES = [
    Series("p=2", L0, [12.0, 15.0, 15.5], [1.0, None, 0.5], [0.01, 0.02, None], (), [(0.045, 54.4), (0.736, 62.1)]),
    Series("p=1", L0, [13.0, 15.2, 15.1], [1.0, 0.4, 0.5]),
]
OVER_MU = Series("", MU, L0, [0.01, 0.02, None], theory=[0.023, 0.159, 0.5], published=[(-1.0, 0.435), (0.0, 0.736)])
NUMBERS = Series("random", [16, 64, 1024], [10.0, 12.0, 13.0], [1.0, 1.0, None])
NAMES = Series("", ["relu", "a rectifier of a very long name", "none"], [15.0, 14.0, 12.0], [0.5, None, 0.5])
KINDS_OF_DIRECTIONS = Series(
    "",
    ["random", "orthogonal", "eigen", "eigen_bottom_half", "random+axis", "orthogonal+axis"],
    [11, 12, 13, 12, 15, 14],
)
QUANTILES = scipy.stats.norm.ppf(np.arange(1, 100) / 100).tolist()
NOISE = np.random.default_rng(0)

DRAW = {
    "accuracy_over_l0": lambda: figures.accuracy_over_l0(SERIES, "measured ℓ0", "encoder, top-1 accuracy (%)"),
    "accuracy_over_l0, one point": lambda: figures.accuracy_over_l0([Series("", [0.5], [15.0], [None])], "ℓ0", "(%)"),
    "accuracy_over_l0, connected": lambda: figures.accuracy_over_l0(
        [Series("plain", L0, [12.0, 15.0, 15.5]), Series("ours", L0, [12.2, 14.8, 15.6])], "ℓ0", "(%)", connected=True
    ),
    "l0_over_target": lambda: figures.l0_over_target([Series("", [0.02, 0.5], [0.04, 0.6])], "measured ℓ0"),
    "l0_over_target, band": lambda: figures.l0_over_target(
        [Series("plain", [0.03, 0.5], [0.1, 0.6]), Series("ours", [0.03, 0.5], [0.04, 0.52])], "ℓ0", (0.02, 0.15)
    ),
    "curve": lambda: figures.curve({"active fraction ℓ0": [OVER_MU]}, "mu"),
    "curve, two metrics": lambda: figures.curve({"ℓ0": [OVER_MU], "top-1 accuracy (%)": [OVER_MU]}, "mu"),
    "curve, log": lambda: figures.curve({"top-1 accuracy (%)": [NUMBERS]}, "number of directions", log_x=True),
    "curve, names": lambda: figures.curve({"top-1 accuracy (%)": [NAMES]}, "rectifier"),
    "curve, many names": lambda: figures.curve({"top-1 accuracy (%)": [KINDS_OF_DIRECTIONS]}, "kind"),
    "convergence": lambda: figures.convergence([Series("p=2", [1, 2, 3], [5, 10, 12], [1, None, 1])], "top-1 (%)"),
    "bars": lambda: figures.bars(
        {
            "encoder, top-1 accuracy (%)": [
                Bar("Rectified LpJEPA", 15.2, 0.4, None, 66.3),
                Bar("LeJEPA with a ReLU after training, and more of it", 11.0),
            ],
            "ℓ0": [Bar("Rectified LpJEPA", 0.57, 0.01, 0.5), Bar("LpJEPA", 1.0, 0.0)],
        }
    ),
    "entropy_over_sparsity": lambda: figures.entropy_over_sparsity(
        [Series("p=2", [0.1, 0.5], [0.4, 1.0])], {"p=2": _rgn_entropy(2.0)}, "entropy per dimension (nats)"
    ),
    "spectrum": lambda: feature_figures.spectrum([1.5, 0.4, 0.3, 0.0], (0.2, 0.5), [0.5, 0.4, 0.3, 0.2], 0.34),
    "spectrum, no target": lambda: feature_figures.spectrum([1.5, 0.4, 0.3, 0.2], (0.2, 0.5)),
    "qq": lambda: feature_figures.qq([Unit(f"unit {i}", QUANTILES, QUANTILES, 2.0, 0.01) for i in (3, 511, 7)]),
    "activity_per_class": lambda: feature_figures.activity_per_class([0.3, 0.5, 0.4], ["ant", "bee", "a bird"], 0.4),
    "activity_per_class, many": lambda: feature_figures.activity_per_class(
        NOISE.uniform(size=100).tolist(), [f"class {i}" for i in range(100)]
    ),
    "score_histogram": lambda: feature_figures.score_histogram(
        [-1.0, -0.5, 0.0], [Panel("noise", [5, 3], [1, 9], 0.8), Panel("errors", [5, 3], [0, 0], math.nan)], "ℓ0 score"
    ),
}


@pytest.fixture(scope="module", params=DRAW.values(), ids=DRAW.keys())
def figure(request):
    return request.param()


def test_fits_a_column_and_nothing_is_cut_or_tiny(figure):
    assert_fits_a_column(figure)


def test_labels_do_not_overlap(figure):
    figure.draw_without_rendering()
    boxes = [(text, text.get_window_extent()) for text in shown_texts(figure) if not text.get_rotation() % 90]
    for index, (text, box) in enumerate(boxes):
        for other, other_box in boxes[:index]:
            wide = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
            high = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
            assert min(wide, high) < 2, (text, other)


def test_axes_say_what_they_are(figure):
    for axes in figure.axes:
        named = axes.get_ylabel() or figure.get_supylabel() or axes.get_yticklabels()[0].get_text()
        assert named
    assert figure.axes[-1].get_xlabel() or figure.get_supxlabel()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_pareto_front_has_the_points_that_no_other_dominates(points):
    def dominated(point):
        return any(other != point and other[0] <= point[0] and other[1] >= point[1] for other in points)

    assert pareto_front(points) == sorted({point for point in points if not dominated(point)})


def lines(axes, colour):
    return [line for line in axes.lines if line.get_color() == colour]


def test_curve_shows_what_was_measured_predicted_and_published():
    axes = DRAW["curve"]().axes[0]
    measured = lines(axes, MEASURED)
    published, ours = (line for line in measured if len(line.get_xdata()) in (2, 3) and line.get_marker() in "Do")
    assert list(ours.get_ydata()) == L0
    assert list(published.get_ydata()) == [0.435, 0.736]
    assert published.get_markerfacecolor() == "white"
    assert list(lines(axes, PREDICTED)[0].get_ydata()) == OVER_MU.theory
    bars = axes.collections[0].get_segments()
    assert [segment[:, 1].tolist() for segment in bars] == [pytest.approx([0.02, 0.04]), pytest.approx([0.18, 0.22])]


def test_published_numbers_of_another_height_have_a_panel_of_their_own():
    upper, lower = DRAW["accuracy_over_l0"]().axes
    assert upper.get_ylabel().endswith("published")
    assert lower.get_ylabel().endswith("ours")
    assert lower.get_ylim()[1] < 20 < 50 < upper.get_ylim()[0]
    assert upper.get_xlim() == lower.get_xlim()


def test_wide_ranges_have_logarithmic_axes_with_plain_labels():
    axes = DRAW["curve, log"]().axes[0]
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["16", "64", "1024"]
    assert DRAW["l0_over_target"]().axes[0].get_xscale() == "log"
    near = figures.l0_over_target([Series("", [0.4, 0.5], [0.5, 0.6])], "ℓ0").axes[0]
    assert near.get_xscale() == "linear"


def test_the_band_is_as_wide_as_the_larger_of_the_two_tolerances():
    figure = DRAW["l0_over_target, band"]()
    axes = figure.axes[0]
    (band,) = axes.collections
    x, y = band.get_paths()[0].vertices.T
    for at in (0.05, 0.1, 0.2, 0.5):
        near = np.abs(x / at - 1) < 0.05
        expected = max(0.02, 0.15 * at)
        assert y[near].max() - at == pytest.approx(expected, abs=0.07 * at)
        assert at - y[near].min() == pytest.approx(expected, abs=0.07 * at)
    assert axes.get_ylim() == axes.get_xlim()
    assert [text.get_text() for text in figure.legends[0].get_texts()][-2:] == ["as asked", "tolerance"]


def test_joined_points_are_compared_with_each_other_and_have_no_front():
    figure = DRAW["accuracy_over_l0, connected"]()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["plain", "ours", "beyond the cliff"]
    assert [list(line.get_xdata()) for line in figure.axes[0].lines if line.get_linestyle() == "-"] == [L0, L0]


def test_axes_of_shares_end_where_shares_end():
    figure = figures.convergence([Series("p=2", [1, 2], [80, 50], [60, 70])], "dead units (%)")
    low, high = figure.axes[0].get_ylim()
    assert -3 < low < 0
    assert 100 < high < 103
    figure = figures.convergence([Series("p=2", [1, 2], [80, 50], [60, 70])], "entropy (nats)")
    assert figure.axes[0].get_ylim()[0] < -20
    figure = figures.convergence([Series("p=2", [1, 2], [80, 50], [60, 70])], "dead units (%)\nours")
    assert -3 < figure.axes[0].get_ylim()[0] < 0  # of a panel apart from the published
    bars = figures.bars({"top-1 accuracy (%)": [Bar("few seeds", 5.0, 12.0)]})
    assert -1 < bars.axes[0].get_xlim()[0] < 0


def test_values_beside_bars_have_three_digits():
    bars = [Bar("a", 15.0), Bar("b", 9.444), Bar("c", 100.0), Bar("d", 0.0806), Bar("e", 0.0)]
    told = [text.get_text() for text in figures.bars({"y": bars}).axes[0].texts]
    assert told == ["15.0", "9.44", "100", "0.0806", "0.00"]


def test_an_axis_with_zero_stays_linear():
    assert figures.curve({"y": [Series("", [0, 1, 100], [1, 2, 3])]}, "x", log_x=True).axes[0].get_xscale() == "linear"


def test_entropy_line_passes_through_the_known_values():
    # p=2: 1.0560 nats at ℓ0 = 1/2, and .4915 at μ=−1, where ℓ0 is Φ(−1).
    l0, entropy = _rgn_entropy(2.0)
    known = np.interp([0.5, scipy.stats.norm.cdf(-1)], l0, entropy)
    assert known == pytest.approx([1.0560, 0.4915], abs=2e-4)


def test_classes_are_sorted_from_dense_to_sparse():
    axes = DRAW["activity_per_class"]().axes[0]
    assert [bar.get_height() for bar in axes.patches] == [0.5, 0.4, 0.3]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["bee", "a bird", "ant"]


def test_histograms_integrate_to_one():
    axes = DRAW["score_histogram"]().axes[0]
    for patch in axes.patches:
        values, edges, _ = patch.get_data()
        assert np.sum(values * np.diff(edges)) == pytest.approx(1.0)
    assert axes.get_title("left") == "noise: AUROC 0.800"


def test_every_kind_that_a_file_may_ask_for_can_be_drawn():
    assert set(KINDS) == set(FIGURES)

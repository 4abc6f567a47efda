"""The figures of a run can be read, and agree with SciPy's law."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from legible import assert_fits_a_column
from matplotlib import _pylab_helpers

from rectified_lpjepa import plots
from rectified_lpjepa.distributions import GeneralizedGaussian, RectifiedGeneralizedGaussian

NAN = float("nan")
EPOCHS = [1.0, 2.0, 3.0, 4.0]
RGN = RectifiedGeneralizedGaussian(1.0, -0.5, 0.7071)
GN = GeneralizedGaussian(2.0, 0.0, 1.0)
REFERENCE = scipy.stats.gennorm(1.0, -0.5, 0.7071)


def target_features(rows: int = 2000, dim: int = 16, seed: int = 0) -> torch.Tensor:
    draws = REFERENCE.rvs((rows, dim), random_state=np.random.default_rng(seed))
    return torch.from_numpy(np.maximum(draws, 0)).float()


FIGURES = {
    "feature_histogram": lambda: plots.feature_histogram(target_features(), RGN),
    "feature_histogram, not rectified": lambda: plots.feature_histogram(target_features() + 0.1, GN),
    "feature_histogram, no target": lambda: plots.feature_histogram(target_features(), None),
    "feature_histogram, no target, not rectified": lambda: plots.feature_histogram(target_features() + 0.1, None),
    "projected_marginals": lambda: plots.projected_marginals(target_features(), RGN),
    "sparsity_over_time": lambda: plots.sparsity_over_time(EPOCHS, [0.8, 0.7, NAN, 0.6], [0.5] * 4),
    "sparsity_over_time, no target": lambda: plots.sparsity_over_time(EPOCHS, [0.8, 0.7, NAN, 0.6], None),
    "loss_terms": lambda: plots.loss_terms(EPOCHS, {"loss": [9, 5, 3, 2], "invariance": [0.3, 0.2, 0.1, 0.1]}),
    "probe_accuracy": lambda: plots.probe_accuracy(EPOCHS, {"val/probe_encoder/top1": [0.1, 0.2, 0.3, 0.4]}),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_fits_a_column_and_is_legible(draw, tmp_path):
    figure = draw()
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000
    assert_fits_a_column(figure)
    for axes in figure.axes:
        assert axes.get_ylabel()
        assert axes.get_xlabel() or axes.get_xticklabels()[0].get_text()


def test_nothing_is_left_in_pyplot():
    for draw in FIGURES.values():
        draw()
    assert _pylab_helpers.Gcf.get_all_fig_managers() == []


def test_without_a_target_the_features_are_drawn_alone():
    z = target_features()
    with_target, alone = plots.feature_histogram(z, RGN), plots.feature_histogram(z, None)
    (bar,) = alone.axes[0].patches
    assert bar.get_height() == pytest.approx((z == 0).double().mean().item())
    assert [len(figure.axes[1].lines) for figure in (with_target, alone)] == [1, 0]
    assert len(plots.feature_histogram(torch.zeros(4, 2), None).axes) == 2
    assert len(plots.sparsity_over_time(EPOCHS, [0.8, 0.7, NAN, 0.6], None).axes[0].lines) == 1


def test_feature_histogram_agrees_with_scipy():
    z = target_features()
    zero, density = plots.feature_histogram(z, RGN).axes
    measured, predicted = (bar.get_height() for bar in zero.patches)
    assert measured == pytest.approx((z == 0).double().mean().item())
    assert predicted == pytest.approx(REFERENCE.cdf(0.0), abs=1e-6)

    x, y = density.lines[0].get_data()
    np.testing.assert_allclose(y, REFERENCE.pdf(x), rtol=1e-4)
    stairs = density.patches[0].get_data()
    mass = (stairs.values * np.diff(stairs.edges)).sum()
    assert mass + measured == pytest.approx(1.0, abs=3e-3)  # what lies beyond the axis is a 10⁻⁴ tail
    centres = (stairs.edges[1:] + stairs.edges[:-1]) / 2
    bulk = stairs.values > 0.03
    np.testing.assert_allclose(stairs.values[bulk], REFERENCE.pdf(centres)[bulk], rtol=0.2)


@pytest.mark.parametrize(("law", "rectified", "panels"), [(GN, False, 1), (GN, True, 2), (RGN, False, 2)])
def test_zero_mass_is_shown_where_there_is_one(law, rectified, panels):
    z = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    assert len(plots.feature_histogram(z.relu() if rectified else z, law).axes) == panels


@pytest.mark.parametrize("law", [RGN, GN])
def test_collapsed_features_are_drawn(law, tmp_path):
    for draw in (plots.feature_histogram, plots.projected_marginals):
        draw(torch.zeros(32, 8), law).savefig(tmp_path / "collapsed.png")
        assert (tmp_path / "collapsed.png").stat().st_size > 1000


def test_projections_of_the_target_lie_on_the_diagonal_and_others_do_not():
    def distance(z: torch.Tensor) -> float:
        lines = plots.projected_marginals(z, RGN, seed=3).axes[1].lines[1:]
        assert len(lines) == 4
        for line in lines:
            assert (np.diff(line.get_xdata()) >= 0).all()
            assert (np.diff(line.get_ydata()) >= 0).all()
        return max(float(np.square(line.get_ydata() - line.get_xdata()).mean()) for line in lines)

    assert distance(target_features()) < 0.01
    assert distance(3 * target_features()) > 0.2


def test_projections_depend_on_the_seed_alone():
    z = target_features()
    first, again, other = (plots.projected_marginals(z, RGN, seed=s).axes[1].lines[1].get_xydata() for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_sparsity_runs_over_epochs_without_validation_and_names_the_last_value():
    figure = plots.sparsity_over_time(EPOCHS, [0.8, NAN, 0.625, NAN], [0.5, NAN, 0.5, NAN])
    x, y = figure.axes[0].lines[0].get_data()
    assert x.tolist() == [1, 3]
    assert y.tolist() == [0.8, 0.625]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["features (0.625)", "target (0.500)"]


def test_one_epoch_is_a_visible_point():
    line = plots.sparsity_over_time([1.0], [0.7], [0.5]).axes[0].lines[0]
    assert line.get_marker() == "o"


def test_loss_terms_are_logarithmic_and_told_apart():
    axes = plots.loss_terms(EPOCHS, {name: [4, 3, 0, 1] for name in ("loss", "invariance", "rdmreg")}).axes[0]
    assert axes.get_yscale() == "log"
    assert len({line.get_color() for line in axes.lines}) == 3


def test_probe_accuracy_is_in_percent_and_leaves_out_what_is_missing():
    history = {"val/probe_encoder/top1": [0.25, 0.5], "train/probe_projector/top1": [NAN, 0.125]}
    axes = plots.probe_accuracy([1.0, 2.0], history).axes[0]
    drawn = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert drawn == {"encoder, val": [25.0, 50.0], "projector, train": [12.5]}
    assert math.isclose(axes.lines[1].get_xdata()[0], 2.0)

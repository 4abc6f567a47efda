"""Activity of classes and overlap of active features, against loops, SciPy and scikit-learn."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from scipy.stats import hypergeom
from sklearn.metrics import jaccard_score

from rectified_lpjepa.functional.activity import class_activity, draw_pairs, expected_jaccard_index, jaccard_index

sets = st_numpy.arrays(
    np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.sampled_from([0, -1, 2])
)


@given(sets, st.data())
def test_class_activity_equals_a_loop(z, data):
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(z), max_size=len(z))))
    found = class_activity(torch.from_numpy(z), torch.from_numpy(labels), 5).numpy()
    assert found.shape == (5, z.shape[1])
    for c in range(5):
        rows = z[labels == c]
        expected = (rows != 0).mean(0) if len(rows) else np.full(z.shape[1], np.nan)
        np.testing.assert_allclose(found[c], expected)


@given(sets)
def test_jaccard_index_equals_scikit_learn(z):
    first, second = z, z[::-1]
    found = jaccard_index(torch.from_numpy(first), torch.from_numpy(second.copy())).numpy()
    for value, a, b in zip(found, first != 0, second != 0, strict=True):
        if (a | b).any():
            assert value == pytest.approx(jaccard_score(a, b))
        else:
            assert math.isnan(value)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_expected_jaccard_index_equals_the_mean_over_all_sets(dim):
    sizes = list(itertools.product(range(dim + 1), repeat=2))
    a, b = torch.tensor(sizes).T
    found = expected_jaccard_index(a, b, dim)
    for (size_a, size_b), value in zip(sizes, found.tolist(), strict=True):
        fixed = set(range(size_a))
        indices = [
            len(fixed & set(other)) / max(len(fixed | set(other)), 1)
            for other in itertools.combinations(range(dim), size_b)
        ]
        if size_a == size_b == 0:
            assert math.isnan(value)
        else:
            assert value == pytest.approx(np.mean(indices), abs=1e-12)


def test_expected_jaccard_index_equals_scipys_hypergeometric_law():
    a, b = torch.tensor([256, 30, 512, 1]), torch.tensor([200, 512, 512, 0])
    expected = [
        hypergeom(512, x, y).expect(lambda i, x=x, y=y: i / (x + y - i), lb=max(0, x + y - 512), ub=min(x, y))
        for x, y in zip(a.tolist(), b.tolist(), strict=True)
    ]
    torch.testing.assert_close(expected_jaccard_index(a, b, 512), torch.tensor(expected, dtype=torch.float64))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.booleans())
def test_pairs_are_as_asked_for_and_all_pairs_come(labels, same):
    labels = torch.tensor(labels)
    pairs = draw_pairs(labels, 3000, same_class=same, generator=torch.Generator().manual_seed(1))
    possible = {
        (i, j) for i, j in itertools.permutations(range(len(labels)), 2) if bool(labels[i] == labels[j]) == same
    }
    assert {tuple(pair) for pair in pairs.tolist()} == possible
    assert len(pairs) == (3000 if possible else 0)


def test_second_of_a_pair_is_uniform_among_the_partners():
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 1])
    for same in (True, False):
        pairs = draw_pairs(labels, 70_000, same_class=same, generator=torch.Generator().manual_seed(1))
        counts = torch.zeros(7, 7).index_put_(tuple(pairs.T), torch.ones(len(pairs)), accumulate=True)
        partners = (counts > 0).sum(1, keepdim=True)
        expected = torch.where(counts > 0, 10_000 / partners, 0.0)
        assert (counts - expected).abs().max() < 300

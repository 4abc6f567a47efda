"""Cross-entropy over the samples that have a label, against SciPy's log-softmax."""

import numpy as np
import pytest
import scipy.special
import torch

from rectified_lpjepa.functional.cross_entropy import labelled_cross_entropy


def logits(dtype=torch.float64):
    return 3 * torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("labels", [[0, 3, 1, 1, 2, 0], [0, -1, 1, -1, 2, 3]])
def test_equals_scipys_log_softmax_over_the_labelled(labels):
    logs = scipy.special.log_softmax(logits().numpy(), axis=-1)
    expected = -np.mean([logs[v, b, label] for v in range(3) for b, label in enumerate(labels) if label >= 0])
    labels = torch.tensor(labels)
    np.testing.assert_allclose(labelled_cross_entropy(logits(), labels).item(), expected, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda z: labelled_cross_entropy(z, labels), logits().requires_grad_())


def test_without_any_label_it_is_zero_with_a_gradient_of_zero():
    z = logits().requires_grad_()
    loss = labelled_cross_entropy(z, torch.full((6,), -1))
    loss.backward()
    assert loss == 0
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_autocast_and_half_precision_compute_in_float32():
    z, labels = logits(torch.float32).bfloat16(), torch.tensor([0, 3, 1, 1, 2, 0])
    with torch.autocast("cpu", torch.bfloat16):
        inside = labelled_cross_entropy(z, labels)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, labelled_cross_entropy(z.float(), labels))


def test_errors():
    with pytest.raises(ValueError, match=r"one label for each of 6 samples, got \(5,\)"):
        labelled_cross_entropy(logits(), torch.zeros(5, dtype=torch.int64))
    for labels, extremes in (([0, 1, 2, 3, 4, 0], "0 and 4"), ([-2, 1, 2, 3, 1, 0], "-2 and 3")):
        with pytest.raises(ValueError, match=rf"Labels lie between {extremes}, .* between 0 and 3, .*HINT"):
            labelled_cross_entropy(logits(), torch.tensor(labels))

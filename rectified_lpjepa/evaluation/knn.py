"""The nearest-neighbour classifier: how well labels carry over to the samples that lie nearest."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from rectified_lpjepa.distributed import current_shard
from rectified_lpjepa.evaluation.features import Evaluation, Subject, require_labels
from rectified_lpjepa.functional.nearest_neighbors import METRICS, NeighborBank

_TOP = (1, 5)


def knn(subject: Subject, k: int = 20, temperature: float = 0.07, chunk: int = 256) -> Evaluation:
    """Classify each test sample by a weighted vote of its nearest training samples, exactly.

    Neighbours are searched among all training samples, without an index, in float64. Under the Euclidean distance d a
    vote weighs 1 / (d + 1e-5), under cosine similarity s it weighs exp(s / temperature). Several processes share the
    test samples.

    Args:
        subject: what to evaluate.
        k: number of neighbours.
        temperature: of the votes under cosine similarity.
        chunk: test samples that are compared with the training samples at a time; more of them need more memory.

    Returns:
        Shares of test samples whose class has most of the votes, and is among the five with most.

    Raises:
        ValueError: there are fewer training samples than ``k``, or no labels.
    """
    if k < 1 or temperature <= 0 or chunk < 1:
        raise ValueError(f"k is {k}, temperature {temperature} and chunk {chunk}. They must be positive.")
    train, test = subject.features("train"), subject.features("test")
    num_classes = require_labels(train, "knn")
    require_labels(test, "knn")
    if len(train) < k:
        raise ValueError(
            f"knn looks for k = {k} neighbours among {len(train)} training samples. HINT: a smaller `--k`."
        )
    metrics: dict[str, float] = {}
    for name, bank in train.kinds().items():
        queries = test.kinds()[name]
        for metric in METRICS:
            neighbors = NeighborBank(bank.to(subject.device), train.labels.to(subject.device), num_classes, metric)
            hits = _hits(neighbors, queries, test.labels, k, temperature, chunk)
            for top, count in zip(_TOP, hits, strict=True):
                metrics[f"{name}/knn{k}_{metric}/top{top}"] = count / len(test)
    protocol = {
        "k": k,
        "neighbours": f"all {len(train)} training samples, exact, features as they are, float64",
        "euclidean": "votes weigh 1 / (distance + 1e-5)",
        "cosine": f"votes weigh exp(similarity / {temperature})",
        "reported_on": "test",
    }
    return Evaluation("knn", protocol, metrics)


def _hits(bank: NeighborBank, queries: Tensor, labels: Tensor, k: int, temperature: float, chunk: int) -> list[int]:
    """Count the test samples that are classified rightly, by the first guess and by the first five, in all."""
    device = bank.labels_N.device
    mine = current_shard().rows(len(labels))
    hits = torch.zeros(len(_TOP), dtype=torch.int64, device=device)
    for start in tqdm(range(mine.start, mine.stop, chunk), desc=f"knn {bank.metric}", leave=False, disable=None):
        rows = slice(start, min(start + chunk, mine.stop))
        own_labels = labels[rows].to(device)
        votes = bank.votes(queries[rows].to(device), k, temperature)
        own = votes.gather(1, own_labels[:, None])
        # Of classes with equally many votes the first counts as the best; a class without votes is no guess.
        before = torch.arange(bank.num_classes, device=device) < own_labels[:, None]
        better = ((votes > own) | ((votes == own) & before)).sum(dim=1)
        hits += torch.stack([((better < top) & (own[:, 0] > 0)).sum() for top in _TOP])
    if dist.is_initialized():
        dist.all_reduce(hits)
    return [int(count) for count in hits]

"""Each process takes its share of the batches of one process, and evaluation every sample once."""

from collections.abc import Iterable

import pytest
import torch
from torch.utils.data import DataLoader

from rectified_lpjepa.data.sampler import BatchRequest, EvaluationSampler, GlobalBatchSampler
from rectified_lpjepa.functional.randomness import keyed_generator


def training_requests(
    n: int, batch_size: int, world: int, rank: int, *, seed: int = 0, epoch: int = 0
) -> list[BatchRequest]:
    sampler = GlobalBatchSampler(torch.arange(n), batch_size, seed=seed, num_replicas=world, rank=rank)
    sampler.set_epoch(epoch)
    requests = list(sampler)
    assert len(requests) == len(sampler)
    return requests


def all_indices(requests: Iterable[BatchRequest]) -> list[int]:
    return [index for request in requests for index in request.indices]


def evaluation_requests(n: int, batch_size: int, world: int) -> list[list[BatchRequest]]:
    ranks = []
    for rank in range(world):
        sampler = EvaluationSampler(torch.arange(n), batch_size, num_replicas=world, rank=rank)
        ranks.append(list(sampler))
        assert len(ranks[-1]) == len(sampler)
    return ranks


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_together_take_the_batches_of_one_process(world: int) -> None:
    n, batch_size, epoch = 103, 8, 3
    single = training_requests(n, batch_size, 1, 0, seed=5, epoch=epoch)
    ranks = [training_requests(n, batch_size, world, rank, seed=5, epoch=epoch) for rank in range(world)]
    assert len(single) == n // batch_size
    for number, whole in enumerate(single):
        shares = [requests[number] for requests in ranks]
        assert all_indices(shares) == whole.indices
        assert [share.start for share in shares] == [rank * batch_size // world for rank in range(world)]
        assert {(share.number, share.global_batch) for share in shares} == {
            (epoch * (n // batch_size) + number, batch_size)
        }


def test_an_epoch_is_a_permutation_without_its_incomplete_end() -> None:
    seen = all_indices(training_requests(103, 8, 1, 0))
    assert len(seen) == len(set(seen)) == 96
    assert set(seen) <= set(range(103))
    assert seen != sorted(seen)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    torch.manual_seed(1)
    first = training_requests(64, 16, 1, 0, seed=1, epoch=2)
    torch.rand(100)
    assert training_requests(64, 16, 1, 0, seed=1, epoch=2) == first
    others = [training_requests(64, 16, 1, 0, seed=seed, epoch=epoch) for seed, epoch in ((1, 1), (2, 2), (3, 0))]
    assert all([request.indices for request in other] != [request.indices for request in first] for other in others)
    # As documented: the permutation of a key, whatever the batch size.
    order = torch.randperm(64, generator=keyed_generator(1, "order", 2)).tolist()
    for batch_size in (16, 32):
        requests = training_requests(64, batch_size, 1, 0, seed=1, epoch=2)
        assert all_indices(requests) == order


def test_only_the_given_positions_are_drawn() -> None:
    positions = torch.tensor([3, 50, 7, 11, 20, 21])
    sampler = GlobalBatchSampler(positions, 6)
    (request,) = sampler
    assert sorted(request.indices) == sorted(positions.tolist())
    (evaluation,) = EvaluationSampler(positions, 6)
    assert evaluation.indices == positions.tolist()


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize(("n", "batch_size"), [(103, 16), (100, 100), (7, 512), (5, 1), (4, 3), (103, 1), (9, 4)])
def test_evaluation_covers_every_sample_once_and_leaves_no_batch_empty(n: int, batch_size: int, world: int) -> None:
    ranks = evaluation_requests(n, batch_size, world)
    indices = [index for requests in ranks for index in all_indices(requests)]
    assert sorted(indices) == list(range(n))
    assert len({len(requests) for requests in ranks}) == 1
    sizes = [len(request.indices) for requests in ranks for request in requests]
    assert 1 <= min(sizes) <= max(sizes) <= min(sizes) + 1
    for shares in zip(*ranks, strict=True):
        total = sum(len(share.indices) for share in shares)
        assert total <= max(batch_size, 2 * world)
        assert {share.global_batch for share in shares} == {total}
        starts = [sum(len(share.indices) for share in shares[:rank]) for rank in range(world)]
        assert [share.start for share in shares] == starts


def test_one_process_evaluates_in_the_order_of_the_data_set() -> None:
    (requests,) = evaluation_requests(10, 4, 1)
    assert [request.indices for request in requests] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert [request.number for request in requests] == [0, 1, 2]


def test_requests_reach_the_data_set_whole() -> None:
    class Echo(torch.utils.data.Dataset[BatchRequest]):
        def __getitem__(self, request: BatchRequest) -> BatchRequest:
            assert isinstance(request, BatchRequest)
            return request

    sampler = GlobalBatchSampler(torch.arange(10), 4, seed=2)
    loader = DataLoader(Echo(), batch_size=None, sampler=sampler)
    assert len(loader) == 2
    assert list(loader) == list(sampler)


@pytest.mark.parametrize(
    ("batch_size", "world", "message"),
    [
        (10, 4, r"batch_size is 10, over all 4 process.*set it to 8"),
        (3, 4, r"set it to 4"),
        (0, 1, r"batch_size is 0"),
        (24, 2, r"batch_size is 24, but there are 20 training samples.*20 at most"),
    ],
)
def test_impossible_batches_are_refused(batch_size: int, world: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GlobalBatchSampler(torch.arange(20), batch_size, num_replicas=world)


def test_impossible_evaluation_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than the 4 processes"):
        EvaluationSampler(torch.arange(3), 8, num_replicas=4)
    with pytest.raises(ValueError, match="eval_batch_size is 0"):
        EvaluationSampler(torch.arange(3), 0)


def test_a_second_pass_numbers_its_batches_on() -> None:
    first, second = (EvaluationSampler(torch.arange(10), 4, pass_number=number) for number in (0, 1))
    assert [request.number for request in first] == [0, 1, 2]
    assert [request.number for request in second] == [3, 4, 5]
    assert [request.indices for request in first] == [request.indices for request in second]

"""One cluster for all tests here, and the ends of its logs where one fails."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from cluster import Cluster, missing

pytest.register_assert_rewrite("jobs")
from jobs import outputs  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "RECTIFIED_LPJEPA_TEST_SLURM" not in os.environ:
        reason = pytest.mark.skip(reason="starts a SLURM cluster of its own, as root: make test-slurm")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(reason)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    reason = missing()
    if reason:
        pytest.fail(reason)
    with Cluster() as started:
        yield started


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fixtures = getattr(item, "funcargs", {})
    if report.failed and {"cluster", "folder"} <= fixtures.keys():
        cluster = fixtures["cluster"]
        queue = cluster.command("scontrol", "show", "job", check=False)
        report.sections.append(("SLURM", f"{queue}\n{cluster.logs()}\n{outputs(fixtures['folder'])}"))
    return report

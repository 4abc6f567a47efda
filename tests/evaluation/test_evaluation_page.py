"""The page on evaluation defines every metric that an evaluation finds, and none that it does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import documents
import pytest
from subjects import FakeSubject, PixelSubject, clusters

from rectified_lpjepa.data.corruptions import CORRUPTIONS
from rectified_lpjepa.evaluation.features import Subject
from rectified_lpjepa.evaluation.registry import EVALUATIONS
from rectified_lpjepa.objectives import Target

PAGE = documents.PAGES["docs/evaluation.md"]
LAW = Target().law()
OTHERS = {name: (clusters(40, seed=seed), clusters(30, seed=seed + 1)) for name, seed in (("other", 5), ("third", 7))}
OPTIONS = {
    "linear": {"lrs": [0.1], "weight_decays": [0.0], "epochs": 1, "min_steps": 2, "augmented": True, "mlp": True},
    "knn": {"k": 5},
    "few-shot": {"shots": [1, "all"], "draws": 2},
    "transfer": {"to": ["other"], "shots": [1, "all"], "draws": 2},
    "sparsity": {"against": ["other", "third"], "pairs": 100},
    "independence": {"mi_pairs": 3},
    "distribution": {"null_draws": 20, "floor_draws": 2, "steps": 2},
    "rank": {"nmf_ranks": [2]},
    "ood": {"against": ["other"], "k": 5},
    "shift": {"against": ["other"], "corruptions": ["contrast"], "severities": [1, 5]},
}
PLACEHOLDERS = {
    "k": r"\d+",
    "n": r"(\d+|all)",
    "r": r"\d+",
    "data set": "(own|other|third|digits)",
    "set": "(noise|shuffled|other|errors)",
    "condition": rf"(clean|corrupted|other|({'|'.join(CORRUPTIONS)})(_[1-5])?)",
}
KINDS = ("encoder", "projector")


class Row(NamedTuple):
    """What one line of a table says of a metric."""

    name: str
    cells: list[str]

    @property
    def has_target(self) -> bool:
        return bool(self.cells[-1])

    def pattern(self, placeholders: dict[str, str]) -> re.Pattern[str]:
        parts = re.split("<(.+?)>", self.name)
        text = "".join(placeholders[part] if place % 2 else re.escape(part) for place, part in enumerate(parts))
        prefix = "" if self.name.startswith((*KINDS, "preactivations")) else f"({'|'.join(KINDS)})/"
        return re.compile(prefix + text)


def tables(evaluation: str) -> Iterator[tuple[str, list[Row]]]:
    """The tables of an evaluation: what their first column is called, and a row for each name in it."""
    section = re.search(rf"^### {evaluation}\n(.*?)(?=^### |\Z)", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert section is not None, evaluation
    for table in re.findall(r"(?:^\|.+\n)+", section[1], flags=re.MULTILINE):
        head, _, *lines = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines())
        rows = []
        for first, *cells in lines:
            assert all(cells[:-1])
            protocol = ""
            for name in re.findall("`(.+?)`", first):
                protocol = f"{name.rpartition('/')[0]}/" if "/" in name else protocol
                rows.append(Row(name if "/" in name else protocol + name, cells))
        yield head[0], rows


def found(evaluation: str) -> set[str]:
    """The metrics of an evaluation of small features with a target, and with neither projector nor target."""
    options = OPTIONS[evaluation]
    subject: Subject = PixelSubject(law=LAW, others=OTHERS)
    names = set()
    if evaluation not in ("ood", "shift"):
        train, test = clusters(40), clusters(30, seed=1)
        views = [[clusters(40, seed=2), clusters(40, seed=3)]]
        subject = FakeSubject(train, test, others=OTHERS, views=views, law=LAW)
    if evaluation == "rank":
        bare = clusters(40, projector=False)
        names |= EVALUATIONS[evaluation](FakeSubject(bare, bare), **options).metrics.keys()
    return names | EVALUATIONS[evaluation](subject, **options).metrics.keys()


def test_every_evaluation_has_a_section() -> None:
    headings = re.findall(r"^### (\S+)$", PAGE.partition("## Each metric")[2], flags=re.MULTILINE)
    assert sorted(headings) == sorted(EVALUATIONS)
    assert OPTIONS.keys() == EVALUATIONS.keys()


@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_the_metrics_of_an_evaluation_are_those_of_the_page(evaluation: str) -> None:
    rows = [row for head, rows in tables(evaluation) if head == "metric" for row in rows]
    scores = [row for head, rows in tables(evaluation) if head == "score" for row in rows]
    placeholders = dict(PLACEHOLDERS)
    names = [re.sub("<(.+?)>", lambda match: PLACEHOLDERS[match[1]], row.name) for row in scores]
    placeholders["score"] = f"({'|'.join(names)})"
    metrics = found(evaluation)
    measured = {name for name in metrics if not name.endswith("_target")}

    described: dict[str, list[str]] = {name: [] for name in measured}
    for row in rows:
        matched = {name for name in measured if row.pattern(placeholders).fullmatch(name)}
        of_kinds = {name.partition("/")[0] for name in matched}
        assert of_kinds == ({row.name.partition("/")[0]} & {*KINDS, "preactivations"} or set(KINDS)), row.name
        for name in matched:
            described[name].append(row.name)
        assert row.has_target == any(f"{name}_target" in metrics for name in matched), row.name
        assert row.cells[2] in ("higher", "lower", "target", "–"), row.name
    assert {name: rows for name, rows in described.items() if len(rows) != 1} == {}
    assert all(name.removesuffix("_target") in measured for name in metrics)
    for name in names:
        assert any(re.match(f"encoder/{name}_vs_", metric) for metric in metrics), name

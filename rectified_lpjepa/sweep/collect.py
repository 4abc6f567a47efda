"""The results of a sweep: a row for each point, and mean and standard deviation over the seeds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rectified_lpjepa.commands import aligned
from rectified_lpjepa.files import atomic_write, write_text
from rectified_lpjepa.sweep.manifest import Entry, short_names, shown
from rectified_lpjepa.sweep.status import ENCODER, L0, L0_TARGET, PROJECTOR, Status, fraction, percent

Row = dict[str, Any]


def result_rows(entries: Sequence[Entry], statuses: Mapping[int, Status]) -> list[Row]:
    """Make a row for each point, all with the same columns.

    They are number, id and state, the options by their names, the seed, the metrics of the last validation and the
    last training epoch by their names, and where the numbers come from; None where a point has no value.
    """
    rows = []
    for entry in entries:
        status = statuses[entry.index]
        result = status.result
        row: Row = {"index": entry.index, "id": entry.id, "state": status.state, "config": entry.config}
        row |= {
            name: json.dumps(value) if isinstance(value, dict | list) else value
            for name, value in entry.options.items()
        }
        row |= {"seed": entry.seed, **result.get("metrics", {})}
        row |= {name: result.get(name) for name in ("epochs", "steps", "seconds", "hardware")}
        row |= {f"version.{name}": version for name, version in result.get("versions", {}).items()}
        row |= {"restarts": status.restarts, "run_dir": entry.run_dir, "finished": _finished(entry, status)}
        rows.append(row)
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column: row.get(column) for column in columns} for row in rows]


def _finished(entry: Entry, status: Status) -> str | None:
    if status.state != "finished":
        return None
    seconds = (Path(entry.run_dir) / "result.json").stat().st_mtime
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _base(entry: Entry) -> str:
    """Give the base configuration of a point, as it was when the point was written down."""
    return entry.argv[entry.argv.index("--config") + 1]


def summary_rows(entries: Sequence[Entry], statuses: Mapping[int, Status], varied: Sequence[str]) -> list[Row]:
    """Make a row for each setting of what varies: mean and standard deviation of each metric over the finished seeds.

    The standard deviation is that of a sample (n − 1), None for one seed.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(json.dumps([_base(entry), entry.options]), []).append(entry)
    # By its name, unless two base configurations have the same.
    is_told = len({entry.config for entry in entries}) == len({_base(entry) for entry in entries})
    rows = []
    for group in groups.values():
        done = [statuses[entry.index].metrics for entry in group if statuses[entry.index].state == "finished"]
        config = group[0].config if is_told else Path(_base(group[0])).stem
        options = {option: config if option == "config" else group[0].options.get(option) for option in varied}
        row: Row = {**options, "seeds": len(done)}
        for name in dict.fromkeys(name for metrics in done for name in metrics):
            values = [metrics[name] for metrics in done if name in metrics]
            row |= {f"{name} mean": mean(values), f"{name} std": stdev(values) if len(values) > 1 else None}
        rows.append(row)
    return rows


def summary_table(rows: Sequence[Row], varied: Sequence[str]) -> str:
    """Lay out accuracies and ℓ0, mean ± standard deviation over seeds, beside the target's ℓ0."""
    labels = short_names(varied)
    table = [[*labels.values(), "seeds", "encoder", "projector", "ℓ0", "target"]]
    for row in rows:
        measured = [_spread(row, ENCODER, percent), _spread(row, PROJECTOR, percent), _spread(row, L0, fraction)]
        options = [shown(row[option]) for option in varied]
        table.append([*options, str(row["seeds"]), *measured, fraction(row.get(f"{L0_TARGET} mean"))])
    return aligned(table, left=0)


def _spread(row: Row, name: str, form: Callable[[float | None], str]) -> str:
    deviation = row.get(f"{name} std")
    return form(row.get(f"{name} mean")) + ("" if deviation is None else f" ± {form(deviation)}")


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV; None is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(column for row in rows for column in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_parquet(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as Parquet; a column with values of several types becomes text.

    Raises:
        ValueError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow.parquet import write_table
    except ImportError:
        raise ValueError("Parquet needs pyarrow. HINT: `pip install pyarrow`, or leave out `--parquet`.") from None
    columns = {}
    for column in rows[0]:
        values = [row[column] for row in rows]
        kinds = {type(value) for value in values if value is not None}
        mixed = len(kinds) > 1 and not kinds <= {int, float}
        columns[column] = [None if value is None else str(value) for value in values] if mixed else values
    with atomic_write(path) as file:
        write_table(pa.table(columns), file)

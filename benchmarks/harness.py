"""One harness for all benchmarks: named callables that must agree, run in turns, compared with a named peer in one run.

A benchmark script builds `Case`s and hands them to `main`. No figure is printed or written unless every case's
equality check is green; then come a Markdown table and, if asked for, CSV rows with the machine and the versions.
"""

import argparse
import csv
import gc
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np

PACKAGES = ("numpy", "numba", "torch", "triton", "zarr", "pydensecrf2")
TURN_SECONDS = 0.02
"""A quick contender repeats its call for this long in each turn; a slow one is called once."""


class RedError(Exception):
    """The contenders of a case don't agree, so that their times mean nothing."""


@dataclass(frozen=True)
class Case:
    """What is compared on one input.

    `check` gets each contender's result by name, returns one line that says how well they agree, and raises RedError
    where they don't. `synchronise` runs before each reading of the clock (a GPU's queue must be empty then).
    """

    operation: str
    name: str
    contenders: Mapping[str, Callable[[], Any]]
    peer: str
    check: Callable[[Mapping[str, Any]], str]
    notes: Mapping[str, str] = field(default_factory=dict)
    rounds: int = 10
    synchronise: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Row:
    """One contender's figures; times in milliseconds; `ratio` is the peer's median over this one's, `ratio_best` the
    same for the shortest times."""

    operation: str
    case: str
    contender: str
    peer: str
    runs: int
    q20_ms: float
    median_ms: float
    q80_ms: float
    best_ms: float
    ratio: float
    ratio_best: float
    agreement: str
    note: str


def measure(case: Case) -> list[Row]:
    """Warm every contender up, check that they agree, then time them in turns whose order rotates.

    Raises:
        RedError: the case's check is red.
    """
    if case.peer not in case.contenders:
        raise ValueError(f"{case.operation} {case.name}: the peer {case.peer!r} is not among {list(case.contenders)}")
    agreement = case.check({name: call() for name, call in case.contenders.items()})
    names = list(case.contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(case.rounds):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                seconds[name] += _turn(case.contenders[name], case.synchronise)
    finally:
        gc.enable()
    return compared(case.operation, case.name, seconds, case.peer, agreement, case.notes)


def compared(
    operation: str,
    case: str,
    seconds: Mapping[str, Sequence[float]],
    peer: str,
    agreement: str,
    notes: Mapping[str, str],
) -> list[Row]:
    """A row for each contender's times, in seconds."""
    of_peer = np.array(seconds[peer]) * 1e3
    rows = []
    for name, values in seconds.items():
        ms = np.array(values) * 1e3
        q20, q50, q80 = np.quantile(ms, [0.2, 0.5, 0.8])
        ratios = float(np.median(of_peer) / q50), float(of_peer.min() / ms.min())
        times = len(ms), float(q20), float(q50), float(q80), float(ms.min())
        rows.append(Row(operation, case, name, peer, *times, *ratios, agreement, notes.get(name, "")))
    return rows


def with_rates(rows: Sequence[Row], images: int) -> list[Row]:
    """The same rows, whose notes begin with images a second, in the median and at best, of calls of `images` each."""
    rates = [f"{images / row.median_ms * 1e3:.4g} images/s (best {images / row.best_ms * 1e3:.4g})" for row in rows]
    return [
        replace(row, note=f"{rate}; {row.note}" if row.note else rate) for row, rate in zip(rows, rates, strict=True)
    ]


def _turn(call: Callable[[], Any], synchronise: Callable[[], None]) -> list[float]:
    seconds: list[float] = []
    while not seconds or sum(seconds) < TURN_SECONDS:
        synchronise()
        start = time.perf_counter()
        call()
        synchronise()
        seconds.append(time.perf_counter() - start)
    return seconds


def machine() -> dict[str, str]:
    """What the figures were measured on: processor, cores, load before the run, GPU, versions."""
    info = Path("/proc/cpuinfo")
    models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    found = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "cpu": models[0] if models else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "load": f"{os.getloadavg()[0]:.2f}",
        "gpu": _gpu(),
        "python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    return found


def _gpu() -> str:
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else ""


def markdown(rows: Sequence[Row], host: Mapping[str, str]) -> str:
    """A table of all rows, under one line that names the machine and the versions."""
    head = ["operation", "case", "contender", "runs", "20 %", "median", "80 %", "ratio", "best/best", "note"]
    lines = ["Measured on " + ", ".join(f"{key} {value}" for key, value in host.items() if value) + ".", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        times = [f"{ms:.3g} ms" for ms in (row.q20_ms, row.median_ms, row.q80_ms)]
        ratios = ["peer", ""] if row.contender == row.peer else [f"{row.ratio:.3g}×", f"{row.ratio_best:.3g}×"]
        cells = [row.operation, row.case, row.contender, str(row.runs), *times, *ratios, row.note]
        lines.append("| " + " | ".join(cells) + " |")
    agreements = dict.fromkeys(f"{row.operation}, {row.case}: {row.agreement}" for row in rows)
    return "\n".join([*lines, "", *(f"- {line}" for line in [*geometric_means(rows), *agreements]), ""])


def geometric_means(rows: Sequence[Row]) -> list[str]:
    """A line for each contender that occurs in several cases of an operation."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.contender != row.peer:
            found.setdefault((row.operation, row.contender, row.peer), []).append(row)
    return [
        f"{operation}, {contender} v. {peer}, geometric mean of {len(own)} cases: "
        f"{geometric_mean([row.ratio for row in own]):.3g}×, best/best "
        f"{geometric_mean([row.ratio_best for row in own]):.3g}×"
        for (operation, contender, peer), own in found.items()
        if len(own) > 1
    ]


def append_csv(rows: Sequence[Row], host: Mapping[str, str], path: Path) -> None:
    """Append one line a row; a new file gets the header first."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)] + list(host))
        if new:
            writer.writeheader()
        writer.writerows(asdict(row) | dict(host) for row in rows)


def command_line(description: str, cases: Collection[str]) -> argparse.ArgumentParser:
    """The options of every benchmark, of which `report` makes use; a script may add its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def known(name: str) -> str:
        if name not in cases:
            raise argparse.ArgumentTypeError(f"no case {name}; there are {', '.join(cases)}")
        return name

    parser.add_argument("cases", nargs="*", type=known, metavar="CASE", help=f"of {', '.join(cases)}; default: all")
    parser.add_argument("--csv", type=Path, help="append the figures to this file")
    parser.add_argument("--json", type=Path, help="write rows and machine to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    return parser


def main(description: str, cases: Mapping[str, Callable[[], Case]], arguments: Sequence[str] | None = None) -> int:
    """Measure the cases (all, or those named on the command line) and return the process's exit status."""
    options = command_line(description, cases).parse_args(arguments)
    return report({name: partial(_measured, make) for name, make in cases.items()}, options)


def _measured(make: Callable[[], Case]) -> list[Row]:
    return measure(make())


def report(cases: Mapping[str, Callable[[], Sequence[Row]]], options: argparse.Namespace) -> int:
    """Measure the cases that `options` name, print and write what they ask for; the process's exit status."""
    host = machine()
    rows: list[Row] = []
    for name in options.cases or cases:
        try:
            rows += cases[name]()
        except RedError as error:
            print(f"RED {name}: {error}; no figure is reported", file=sys.stderr)
            return 1
    table = markdown(rows, host)
    print(table)
    if options.markdown:
        options.markdown.write_text(table)
    if options.csv:
        append_csv(rows, host, options.csv)
    if options.json:
        options.json.write_text(json.dumps({"machine": host, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    return 0

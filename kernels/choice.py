"""Which implementation of an operation runs, decided in one place and said once.

An operation has a plain definition and faster twins. `choose` takes the first that is usable; one that was asked for
by name and is not usable is an error. A single logged line names what was taken and why: which were passed over for
which reason, or that it was asked for.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

logger = logging.getLogger("camshaft.kernels")

_said: set[str] = set()
_records: list[dict[str, str]] = []


class Unavailable(ValueError):  # noqa: N818 - reads as a state: "implementation x is unavailable"
    """An implementation that was asked for by name can't run here."""


def choose(operation: str, asked: str, candidates: Mapping[str, str | None]) -> str:
    """Return the name of the implementation to run.

    Args:
        operation: name of the operation, for messages.
        asked: a candidate's name, or "auto" for the first usable one.
        candidates: best first; value None where the implementation can run, else the reason why it can't.

    Raises:
        Unavailable: `asked` is not a candidate, or can't run here.
    """
    if asked != "auto":
        if asked not in candidates:
            raise Unavailable(f"{operation}: no implementation {asked!r}; there are {', '.join(candidates)}")
        if (reason := candidates[asked]) is not None:
            raise Unavailable(f"{operation}: implementation {asked!r} was asked for but {reason}")
        _say(operation, asked, ["as asked for"])
        _record(operation, asked)
        return asked
    passed_over: list[str] = []
    for name, reason in candidates.items():
        if reason is None:
            _say(operation, name, passed_over)
            _record(operation, name)
            return name
        passed_over.append(f"{name}: {reason}")
    raise Unavailable(f"{operation}: no implementation can run here ({'; '.join(passed_over)})")


@contextmanager
def recorded() -> Iterator[Mapping[str, str]]:
    """Record, while the block runs, which implementation each operation took, in any thread; the last one counts."""
    taken: dict[str, str] = {}
    _records.append(taken)
    try:
        yield taken
    finally:
        _records[:] = [other for other in _records if other is not taken]


def _record(operation: str, name: str) -> None:
    for taken in _records:
        taken[operation] = name


def _say(operation: str, name: str, why: list[str]) -> None:
    line = f"{operation}: {name}" + (f" ({'; '.join(why)})" if why else "")
    if line not in _said:
        _said.add(line)
        logger.info(line)

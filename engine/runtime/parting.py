"""How ranks part when one of them fails: it tells the others why, and one that is silent is named.

A rank that ends alone leaves the others in a collective that fails with the text of a socket or, if it hangs, after the
time limit. What happened is found in the process group's store: who ends leaves a word there, and who lost contact
answers a roll call. So every rank ends soon, with one line that says which rank is to blame.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from camshaft.engine.errors import CamshaftError, RankLostError
from camshaft.engine.runtime.limit import within
from camshaft.engine.runtime.ranks import Ranks

ROLL_CALL_SECONDS = 5.0
"""How long a rank that lost contact waits for the others to answer."""
STORE_SECONDS = 5.0
"""How long the store is waited for: the process that keeps it may hang."""
FAREWELL_SECONDS = 10.0
"""How long the first rank, which keeps the store, waits at most for the others to read it."""
_POLL_SECONDS = 0.05
_WORD, _HERE, _READ = "camshaft/ended", "camshaft/here", "camshaft/read"


@contextmanager
def ending_together(ranks: Ranks) -> Iterator[None]:
    """Work of all ranks: if one of them fails where the others don't know of it, all end soon, and say why.

    Args:
        ranks: this process among its peers; all of them enter together, after `Ranks.join`.

    Raises:
        RankLostError: contact to another rank was lost; says which one and, if it left a word, why.
    """
    if ranks.world_size == 1:
        yield
        return
    store = ranks.store()
    try:
        yield
    except BaseException as error:
        lost = _is_lost_contact(error)
        line = str(error) if isinstance(error, CamshaftError) else f"{type(error).__name__}: {error}"
        if not lost:
            _tell(store, f"{_WORD}/{ranks.rank}", line)
            ranks.abort()
            _farewell(store, ranks, set())
            raise
        try:
            reason, silent = within(ROLL_CALL_SECONDS + STORE_SECONDS, lambda: _roll_call(store, ranks, line))
        except TimeoutError:  # the store stands still, and with it the rank that keeps it
            reason, silent = _not_answering([0], line), {0}
        ranks.abort()
        _farewell(store, ranks, silent)
        raise RankLostError(reason) from error


def _is_lost_contact(error: BaseException) -> bool:
    """Whether a collective failed: gloo has no class of its own for that, but names its files."""
    import torch.distributed as dist  # noqa: PLC0415 - slow to import

    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _roll_call(store: Any, ranks: Ranks, line: str) -> tuple[str, set[int]]:
    """Who is to blame, in one line, and the ranks that did not answer."""
    _tell(store, f"{_HERE}/{ranks.rank}", "here")
    others = [rank for rank in range(ranks.world_size) if rank != ranks.rank]
    end = time.monotonic() + ROLL_CALL_SECONDS
    try:
        while True:
            for rank in others:
                if store.check([f"{_WORD}/{rank}"]):
                    word = store.get(f"{_WORD}/{rank}").decode(errors="replace")
                    return f"ended because rank {rank} did: {word}", set()
            silent = [rank for rank in others if not store.check([f"{_HERE}/{rank}"])]
            if not silent or time.monotonic() > end:
                break
            time.sleep(_POLL_SECONDS)
    except Exception:  # the store is gone, and with it the rank that keeps it
        silent = [0]
    finally:
        _tell(store, f"{_READ}/{ranks.rank}", "read")
    if not silent:
        return f"all ranks lost contact: {_short(line)}", set()
    return _not_answering(silent, line), set(silent)


def _not_answering(silent: list[int], line: str) -> str:
    named = f"rank {silent[0]} does" if len(silent) == 1 else f"ranks {', '.join(map(str, silent))} do"
    return f"{named} not answer: killed, out of memory or hanging ({_short(line)})"


def _short(line: str) -> str:
    """What gloo says, less the place in its source and its advice."""
    first = re.sub(r"^RuntimeError: (\[\S*gloo\S*\] )?", "", line.splitlines()[0])
    return first.split(". This is")[0]


def _tell(store: Any, key: str, text: str) -> None:
    with suppress(Exception):  # who could be told is gone already, or stands still
        within(STORE_SECONDS, lambda: store.set(key, text))


def _farewell(store: Any, ranks: Ranks, silent: set[int]) -> None:
    """Keep the store until all others have left a word or read that of others."""
    if not ranks.is_first:
        return
    waiting = set(range(1, ranks.world_size)) - silent
    end = time.monotonic() + FAREWELL_SECONDS
    with suppress(Exception):
        while waiting and time.monotonic() < end:
            waiting = {rank for rank in waiting if not any(store.check([f"{key}/{rank}"]) for key in (_WORD, _READ))}
            time.sleep(_POLL_SECONDS)

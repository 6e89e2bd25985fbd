"""A call with a limit on its time."""

import threading

import pytest

from camshaft.engine.runtime.limit import within


def test_what_is_done_in_time_is_returned_or_raised() -> None:
    assert within(10, lambda: 7) == 7
    assert within(10, lambda: None) is None
    with pytest.raises(KeyError, match="missing"):
        within(10, lambda: {}["missing"])


def test_what_takes_longer_is_left_behind() -> None:
    waiting = threading.Event()
    with pytest.raises(TimeoutError, match=r"did not return within 0\.05 s"):
        within(0.05, waiting.wait)
    waiting.set()

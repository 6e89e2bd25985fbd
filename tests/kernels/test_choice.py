import logging

import pytest

from camshaft.kernels.choice import Unavailable, choose, recorded


def test_the_first_that_can_run_is_taken_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "camshaft.kernels")
    candidates = {"fast": "it needs wings", "plain": None}
    assert [choose("test of saying", "auto", candidates) for _ in range(3)] == ["plain"] * 3
    assert caplog.messages == ["test of saying: plain (fast: it needs wings)"]


def test_what_was_asked_for_is_said_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "camshaft.kernels")
    assert [choose("test of asking", "plain", {"fast": None, "plain": None}) for _ in range(2)] == ["plain"] * 2
    assert caplog.messages == ["test of asking: plain (as asked for)"]


def test_what_was_asked_for_must_be_able_to_run() -> None:
    with pytest.raises(Unavailable, match="'fast' was asked for but it needs wings"):
        choose("test", "fast", {"fast": "it needs wings", "plain": None})
    with pytest.raises(Unavailable, match="no implementation 'other'; there are fast, plain"):
        choose("test", "other", {"fast": None, "plain": None})
    with pytest.raises(Unavailable, match="no implementation can run here"):
        choose("test", "auto", {"fast": "it needs wings"})


def test_a_record_holds_what_was_taken_while_it_was_open() -> None:
    choose("before", "auto", {"plain": None})
    with recorded() as outer:
        with recorded() as inner:
            choose("walk", "auto", {"fast": "it needs wings", "plain": None})
        choose("crf", "plain", {"fast": None, "plain": None})
    choose("after", "auto", {"plain": None})
    assert dict(inner) == {"walk": "plain"}
    assert dict(outer) == {"walk": "plain", "crf": "plain"}

"""A limit on the time of a call that has none of its own."""

import threading
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def within(seconds: float, work: Callable[[], Value]) -> Value:
    """What `work` returns; it runs in a thread, which is left behind where it takes too long.

    Args:
        seconds: for how long `work` is waited for.
        work: what is called. An exception that it raises is raised here.

    Raises:
        TimeoutError: it did not return in time.
    """
    returned: list[Value] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(work())
        except BaseException as error:  # raised below
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True, name="camshaft-limit")
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not returned:
        raise TimeoutError(f"did not return within {seconds:g} s")
    return returned[0]

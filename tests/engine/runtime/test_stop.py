"""Signals set the flag once; a second one ends the process as usual."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from camshaft.engine.errors import Stopped
from camshaft.engine.runtime.stop import StopFlag, stopping_on_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_flag_and_handlers_are_restored(number):
    before = signal.getsignal(number)
    with stopping_on_signals(StopFlag()) as flag:
        flag.raise_if_set()
        os.kill(os.getpid(), number)
        assert flag.reason == number.name
        assert signal.getsignal(number) == before
        with pytest.raises(Stopped, match=f"stopped by {number.name}"):
            flag.raise_if_set()
    assert signal.getsignal(number) == before


def test_a_second_signal_ends_the_process():
    code = (
        "import os, signal\n"
        "from camshaft.engine.runtime.stop import StopFlag, stopping_on_signals\n"
        "with stopping_on_signals(StopFlag()) as flag:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print(flag.reason, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "SIGTERM\n"
    assert done.returncode == -signal.SIGTERM


def test_other_threads_leave_the_handlers_alone():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with stopping_on_signals(StopFlag()):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_first_reason_stays():
    flag = StopFlag()
    flag.set("SIGTERM")
    flag.set("SIGINT")
    assert flag.reason == "SIGTERM"

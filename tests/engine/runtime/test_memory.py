"""Peak memory of the process and of its children."""

import subprocess
import sys
import time

from camshaft.engine.runtime.memory import PeakMemory, tree_bytes

MIB = 2**20


def test_memory_that_is_gone_again_was_seen():
    before = tree_bytes()
    with PeakMemory() as peak:
        block = bytearray(200 * MIB)
        time.sleep(0.8)
        del block
    assert peak.bytes >= before + 190 * MIB
    assert peak.device_bytes is None or peak.device_bytes >= 0


def test_children_count():
    code = "block = bytearray(150 * 2**20); print('ready', flush=True); input()"
    with PeakMemory() as peak:
        before = tree_bytes()
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.8)
        child.communicate("\n")
    assert peak.bytes >= before + 145 * MIB

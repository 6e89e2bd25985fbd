"""An error in a network's forward or backward pass on one of two ranks: both end soon, and both say why."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.two_ranks
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_an_error_on_one_rank_soon_ends_both(tmp_path: Path, where: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launched = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    worker = Path(__file__).with_name("accident_worker.py")
    processes = [
        subprocess.Popen(
            [sys.executable, str(worker), str(tmp_path), where],
            env={**launched, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    other, failed = (json.loads((tmp_path / f"said-{rank}.json").read_text()) for rank in range(2))
    assert failed["error"] == "ValueError: a bug"
    assert other["error"] == "RankLostError: ended because rank 1 did: ValueError: a bug"
    assert abs(other["at"] - failed["at"]) < 10

"""A rank that meets the others while its group for tensors stands still: python meeting_worker.py WHAT."""

import os
import signal
import sys
import time
from datetime import timedelta

import numpy as np
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: F401 - registers the backend

from camshaft.engine.errors import RankLostError
from camshaft.engine.runtime.parting import ending_together
from camshaft.engine.runtime.ranks import Ranks


def main() -> None:
    ranks = Ranks.from_environment()
    store = next(iter(dist.rendezvous("env://", ranks.rank, ranks.world_size)))[0]
    # A backend whose collectives return at once and move nothing, as NCCL's do while a GPU waits.
    dist.init_process_group("fake", store=store, rank=ranks.rank, world_size=ranks.world_size)
    ranks.join(timedelta(seconds=5))
    last = ranks.rank == ranks.world_size - 1
    if sys.argv[1] == "meet":
        ranks.barrier()
        found = ranks.gather(ranks.rank), ranks.agree(lambda: "first" if ranks.is_first else "other")
        sys.stdout.write(f"{found} {ranks.sum(np.array([1, ranks.rank])).tolist()}\n")
        ranks.leave()
        return
    try:
        with ending_together(ranks):
            ranks.barrier()
            if sys.argv[1] == "stop the first":
                if ranks.is_first:
                    os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(1)
                ranks.add("counter", 1)
            if last:
                time.sleep(600)
            ranks.gather(0)
    except RankLostError as lost:
        sys.stdout.write(f"{lost}\n")


if __name__ == "__main__":
    main()

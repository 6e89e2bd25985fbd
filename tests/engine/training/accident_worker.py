"""A process of a training test: its network fails or stands still on the last rank in the third step.

python accident_worker.py FOLDER forward|backward|hang
"""

import importlib.util
import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch

from camshaft.engine.runtime.parting import ending_together
from camshaft.engine.runtime.ranks import Ranks

spec = importlib.util.spec_from_file_location("tiny_task", Path(__file__).with_name("conftest.py"))
assert spec is not None
assert spec.loader is not None
tiny = importlib.util.module_from_spec(spec)
sys.modules["tiny_task"] = tiny
spec.loader.exec_module(tiny)


class Fails(tiny.TinyNetwork):
    """Raises in the third forward pass, or in the backward pass that follows it; or does not return from it."""

    def __init__(self, where):
        super().__init__(dropout=0.0)
        self.where, self.calls = where, 0

    def forward(self, image):
        self.calls += 1
        output = super().forward(image)
        if self.calls == 3:
            if self.where == "nowhere":
                return output
            if self.where == "hang":
                time.sleep(600)
            if self.where == "forward":
                raise ValueError("a bug")
            output.register_hook(self.fail)
        return output

    def fail(self, _gradient):
        raise ValueError("a bug")


def main():
    torch.set_num_threads(1)
    folder, where = Path(sys.argv[1]), sys.argv[2]
    ranks = Ranks.from_environment()
    ranks.join(timedelta(seconds=15))
    last = ranks.rank == ranks.world_size - 1
    error = None
    try:
        with ending_together(ranks):
            run = tiny.Run(folder)
            run({"batch_size": 8}, ranks=ranks, network=lambda: Fails(where if last else "nowhere"))
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
    (folder / f"said-{ranks.rank}.json").write_text(json.dumps({"error": error, "at": time.time()}))
    ranks.leave()


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    main()

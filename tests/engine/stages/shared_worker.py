"""A process of a test of shared work: fills a map store and a mask folder of scenes, and says what it made.

    python shared_worker.py FOLDER SCENARIO

Its place among other processes comes from the environment, as a launcher sets it.
"""

import json
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch

import camshaft.engine.runtime.ranks
from camshaft.engine.data import inspect, open_data
from camshaft.engine.data.scenes import ScenesSettings
from camshaft.engine.errors import CamshaftError, DataError
from camshaft.engine.runtime.console import Console
from camshaft.engine.runtime.parting import ending_together
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.stop import StopFlag
from camshaft.engine.stages.map_stores import fill_map_store
from camshaft.engine.stages.per_image import fill_mask_folders
from camshaft.engine.stages.shared import taking
from camshaft.engine.stages.stage import StageContext
from camshaft.engine.stores import plan

IMAGES = 64
SLOW_SECONDS, QUICK_SECONDS = 0.12, 0.01


class Work:
    """Maps and masks that follow from the image alone; the last rank is slow, and may have an accident."""

    def __init__(self, context, accident):
        self.context, self.accident = context, accident
        self.last = context.ranks.rank == context.ranks.world_size - 1
        self.maps_done, self.masks_done = [], []
        self.layout = plan(
            [f"i{number}" for number in range(IMAGES)],
            [[number % 2] for number in range(IMAGES)],
            np.full((IMAGES, 2), 6),
            np.full((IMAGES, 2), 48),
            classes=["cat", "dog"],
            block_images=2,
        )

    def pause(self, done):
        slow = self.accident is failed or (self.last and self.context.ranks.world_size > 1)
        time.sleep(SLOW_SECONDS if slow else QUICK_SECONDS)
        if self.last and len(done) == 2:
            self.accident()

    def maps(self, images):
        self.pause(self.maps_done)
        self.maps_done.append(images.start)
        return [np.full((1, 6, 6), number / IMAGES, np.float32) for number in images]

    def masks(self, ids):
        for image_id in ids:
            self.pause(self.masks_done)
            self.masks_done.append(image_id)
            height, width = self.context.data.size(image_id)
            yield image_id, [np.full((height, width), len(image_id) % 3, np.uint8)]

    def run(self):
        fill_map_store(self.context, "train", self.layout, {"align_corners": True}, self.maps)
        fill_mask_folders(self.context, "masks", "train", [self.context.folder / "masks"], self.masks)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def failed():
    raise DataError("lost.jpg: no such file")


def broken():
    raise ZeroDivisionError("a bug")


def hanging():
    time.sleep(60)


ACCIDENTS = {"whole": lambda: None, "killed": killed, "failed": failed, "broken": broken, "hanging": hanging}


def main():
    folder, scenario = Path(sys.argv[1]), sys.argv[2]
    ranks = Ranks.from_environment()
    ranks.join(timedelta(seconds=120))
    ranks.barrier()
    if scenario == "hanging":  # the limit of `join` would hold for starting up, too
        camshaft.engine.runtime.ranks._time_limit = timedelta(seconds=3)
        ranks.limit_waiting()
    data = open_data(ScenesSettings(kind="scenes", train=IMAGES, val=1, height=64, width=64), Path())
    context = StageContext(
        folder=folder,
        base=folder,
        data=data,
        inspection=inspect(data, ["train"]),
        inputs={},
        seed=(0, "stage"),
        arithmetic="fp32",
        device=torch.device("cpu"),
        threads=1,
        ranks=ranks,
        console=Console(enabled=False),
        stop=StopFlag(),
    )
    work = Work(context, ACCIDENTS[scenario])
    error = None
    try:
        with ending_together(ranks):
            if scenario == "hanging":
                with taking(context, "hangs", [1], total=1):
                    work.pause([0, 0])
            work.run()
    except (CamshaftError, ZeroDivisionError) as caught:
        error = f"{type(caught).__name__}: {caught}"
    said = {"error": error, "maps": work.maps_done, "masks": work.masks_done, "at": time.time()}
    (folder / f"said-{scenario}-{ranks.rank}.json").write_text(json.dumps(said))
    ranks.leave()


if __name__ == "__main__":
    main()

"""A rank of a test of OC-CSE's stages: trains CGNet with a guide that learns along, and erases and infers.

    python erase_worker.py FOLDER STAGE …

`prepare` has left the ordinary classifier in the folder. The process's place among others comes from the environment,
as a launcher sets it.
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch

from camshaft.engine.data import DataSet, inspect, open_data
from camshaft.engine.data.scenes import ScenesSettings
from camshaft.engine.models import ClassifierSettings, build_classifier, save_network
from camshaft.engine.runtime.console import Console
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.stop import StopFlag
from camshaft.engine.stages.erase import Erase
from camshaft.engine.stages.erase_and_infer import EraseAndInfer
from camshaft.engine.stages.networks import FILE
from camshaft.engine.stages.stage import Product, Stage, StageContext, StageOutput

IMAGES = 36
"""Enough for three blocks of a map store."""
BACKBONE: dict[str, Any] = {
    "name": "torch.nn:Conv2d",
    "arguments": {"in_channels": 3, "out_channels": 16, "kernel_size": 9, "stride": 8, "padding": 4},
}
"""One layer, quick and with features of both signs from its first weights on."""
AGAIN: dict[str, Any] = {"kind": "erase_and_infer", "network": "ordinary", "scales": [0.5, 1.0], "batch_size": 4}
CGNET: dict[str, Any] = {
    "kind": "erase",
    "guide": "ordinary",
    "backbone": BACKBONE,
    "iterations": 6,
    "batch_size": 8,
    "optimizer": {"kind": "sgd", "lr": 0.01, "momentum": 0.9},
    "augmentation": {"resize": {"long_side": [64, 80]}, "flip": 0.5, "jitter": {"brightness": 0.3}, "crop": 65},
    "log_every": 1,
}
STAGES: dict[str, Stage] = {
    "agnostic": EraseAndInfer.model_validate({"id": "agnostic", **AGAIN, "rounds": 2, "threshold": 0.3}),
    "specific": EraseAndInfer.model_validate(
        {"id": "specific", **AGAIN, "rounds": 1, "erasing": "class_specific", "divide_by": "first", "aggregate": "sum"}
    ),
    "learning": Erase.model_validate({"id": "learning", **CGNET, "guidance": "learning"}),
}


def data() -> DataSet:
    """Some of them have no tag, some several."""
    return open_data(ScenesSettings(kind="scenes", train=IMAGES, val=1, height=64, width=64, seed=5), Path())


def prepare(folder: Path) -> None:
    """Leave an ordinary classifier, whose maps are not all of one sign."""
    torch.manual_seed(0)
    settings = ClassifierSettings.model_validate({"backbone": BACKBONE})
    (folder / "ordinary").mkdir()
    save_network(folder / "ordinary" / FILE, build_classifier(settings, data().classes, folder))


def context_of(folder: Path, stage: str, ranks: Ranks) -> StageContext:
    """The context of a stage in a folder of its own, named after it and the number of ranks."""
    scenes, own = data(), folder / f"{stage}-{ranks.world_size}"
    own.mkdir(exist_ok=True)
    return StageContext(
        folder=own,
        base=folder,
        data=scenes,
        inspection=inspect(scenes, ["train"]),
        inputs={"ordinary": StageOutput("ordinary", folder / "ordinary", {"produces": str(Product.CLASSIFIER)})},
        seed=(0, stage),
        arithmetic="fp32",
        device=torch.device("cpu"),
        threads=1,
        ranks=ranks,
        console=Console(enabled=False),
        stop=StopFlag(),
    )


def main() -> None:
    """Run stages as one of several ranks."""
    torch.set_num_threads(1)
    ranks = Ranks.from_environment()
    for stage in sys.argv[2:]:
        STAGES[stage].run(context_of(Path(sys.argv[1]), stage, ranks))
    ranks.leave()


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    main()

"""A rank of a walk test: walks the maps that `prepare` left in a folder.

    python walk_worker.py FOLDER STAGE

Its place among other processes comes from the environment, as a launcher sets it.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch

from camshaft.engine.data import DataSet, inspect, open_data
from camshaft.engine.data.scenes import ScenesSettings
from camshaft.engine.models import AffinityNetSettings, build_affinity_net, save_network
from camshaft.engine.runtime.console import Console
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.stop import StopFlag
from camshaft.engine.stages.stage import Product, StageContext, StageOutput
from camshaft.engine.stages.walk import Walk
from camshaft.engine.stores import MapStoreWriter, finalize, plan

STAGE = Walk.model_validate({"id": "walk", "kind": "walk", "network": "net", "maps": "maps", "batch_size": 4})


def data() -> DataSet:
    """Images enough for three blocks of a map store."""
    return open_data(ScenesSettings(kind="scenes", train=36, val=1, height=64, width=64, seed=5), Path())


def prepare(folder: Path) -> None:
    """Leave a network and maps."""
    scenes = data()
    torch.manual_seed(0)
    backbone = {"name": "efficientnet_lite0", "weights": None, "head": False}
    levels = [{"layer": "stage3", "channels": 8}, {"layer": "stage5", "channels": 8}]
    settings = AffinityNetSettings.model_validate({"backbone": backbone, "levels": levels})
    (folder / "net").mkdir()
    save_network(folder / "net/network.safetensors", build_affinity_net(settings, scenes.classes, folder))
    sizes = np.array([scenes.size(image_id) for image_id in scenes.ids("train")])
    classes = [np.flatnonzero(row).tolist() for row in scenes.tags("train")]
    layout = plan(scenes.ids("train"), classes, -(-(sizes - 1) // 8) + 1, sizes, classes=scenes.classes)
    writer = MapStoreWriter.create(folder / "maps/train", layout)
    generator = np.random.default_rng(0)
    for block in writer.blocks_missing():
        shapes = [layout.shape(index) for index in layout.block(block)]
        writer.write_block(block, [generator.random(shape, np.float32) for shape in shapes])
    finalize(folder / "maps/train", {"align_corners": True})


def context_of(folder: Path, stage: str, ranks: Ranks | None = None) -> StageContext:
    """The stage's context."""
    scenes = data()
    (folder / stage).mkdir(exist_ok=True)
    return StageContext(
        folder=folder / stage,
        base=folder,
        data=scenes,
        inspection=inspect(scenes, ["train"]),
        inputs={
            "net": StageOutput("net", folder / "net", {"produces": str(Product.AFFINITY)}),
            "maps": StageOutput("maps", folder / "maps", {"produces": str(Product.MAPS)}),
        },
        seed=(0, "walk"),
        arithmetic="fp32",
        device=torch.device("cpu"),
        threads=1,
        ranks=ranks or Ranks(),
        console=Console(enabled=False),
        stop=StopFlag(),
    )


def main() -> None:
    """Walk as one of several ranks."""
    torch.set_num_threads(1)
    ranks = Ranks.from_environment()
    STAGE.run(context_of(Path(sys.argv[1]), sys.argv[2], ranks))
    ranks.leave()


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    main()

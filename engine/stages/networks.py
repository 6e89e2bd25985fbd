"""Networks between stages: opened from another stage's folder, checked against this run's classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch

from camshaft.engine.errors import WeightsError
from camshaft.engine.models import AffinityNet, Classifier, Segmenter, load_network
from camshaft.engine.stages.stage import StageContext

FILE = "network.safetensors"

Network = TypeVar("Network", Classifier, Segmenter, AffinityNet)


def open_network(context: StageContext, stage_id: str, kind: type[Network]) -> Network:
    """The network that another stage made, on this process's device, in inference mode, channels last.

    Raises:
        WeightsError: it is another kind of network, or was made for other classes than the data's.
    """
    path = context.inputs[stage_id].folder / FILE
    network = load_network(path, imports=True)  # the run's own file: its recipe names the import path too
    if not isinstance(network, kind):
        raise WeightsError(f"{path}: holds a {type(network).__name__}, not a {kind.__name__}")
    check_classes(path, network, context.data.classes)
    network.to(context.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    network.eval()
    return network


def check_classes(path: Path, network: Classifier | Segmenter | AffinityNet, classes: Sequence[str]) -> None:
    """See that the network in `path` was made for the data's classes.

    Raises:
        WeightsError: it was made for others.
    """
    if network.classes != tuple(classes):
        raise WeightsError(
            f"{path}: was made for the classes {', '.join(network.classes)}, but the data has {', '.join(classes)}"
        )

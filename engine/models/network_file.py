"""A network as one file: its weights (safetensors) and, in the file's metadata, all that rebuilds it.

No code is stored, and none is imported that the file alone asks for. The metadata's key "camshaft" is a JSON object:
format, kind, classes, settings.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from camshaft.engine.errors import CamshaftError, WeightsError
from camshaft.engine.models.affinity import AffinityNet, AffinityNetSettings, build_affinity_net
from camshaft.engine.models.cam import Classifier, ClassifierSettings, build_classifier
from camshaft.engine.models.segmentation import Segmenter, SegmenterSettings, build_segmenter
from camshaft.engine.models.suppression import suppressions
from camshaft.engine.models.weights import load_weights
from camshaft.engine.runtime.files import write_bytes

FORMAT = 1
METADATA_KEY = "camshaft"

Network = Classifier | Segmenter | AffinityNet

KINDS = {Classifier: "classifier", Segmenter: "segmenter", AffinityNet: "affinity"}
"""How files name the networks."""


def describe(network: Network) -> dict[str, Any]:
    """All that rebuilds `network` but its weights, as JSON values.

    Raises:
        ValueError: suppression was plugged into the network after it was built, so its settings do not tell of it.
    """
    if suppressions(network) != tuple(f"backbone.{name}" for name in network.backbone.suppressed):
        raise ValueError("suppression that is to be saved with its network belongs in the classifier's settings")
    return {
        "format": FORMAT,
        "kind": KINDS[type(network)],
        "classes": list(network.classes),
        "settings": network.settings.model_dump(mode="json"),
    }


def rebuild(description: dict[str, Any], *, imports: bool = False) -> Network:
    """The network that `describe` described, with random weights, in inference mode; no pretrained file is read.

    Args:
        description: what `describe` said.
        imports: the description is trusted: a backbone that it gives by import path is imported and called.

    Raises:
        WeightsError: the description is of a newer format, of no network that this version knows, or asks for an
            import that it may not.
    """
    if description.get("format") != FORMAT:
        raise WeightsError(f"format {description.get('format')!r} of network files; this version reads {FORMAT}")
    name = description["settings"]["backbone"]["name"]
    if ":" in str(name) and not imports:
        raise WeightsError(f"its backbone is made by {name}, and camshaft calls no code that a file alone asks for")
    classes = tuple(description["classes"])
    nowhere = Path()
    match description["kind"]:
        case "classifier":
            settings = ClassifierSettings.model_validate(description["settings"])
            return build_classifier(settings, classes, nowhere, pretrained=False)
        case "segmenter":
            return build_segmenter(
                SegmenterSettings.model_validate(description["settings"]), classes, nowhere, pretrained=False
            )
        case "affinity":
            return build_affinity_net(
                AffinityNetSettings.model_validate(description["settings"]), classes, nowhere, pretrained=False
            )
        case kind:
            raise WeightsError(f"a network of the unknown kind {kind!r}")


def save_network(path: Path, network: Network) -> None:
    """Write `network` with its description to `path` (.safetensors), whole or not at all.

    Raises:
        DiskFullError: no space was left; `path` is as it was before.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_bytes(path, save(tensors, {METADATA_KEY: json.dumps(describe(network))}))


def load_network(path: Path, *, imports: bool = False) -> Network:
    """The network of a file that `save_network` wrote, on the CPU, in inference mode.

    Args:
        path: the file.
        imports: the file is trusted, such as one of this run: a backbone by import path is imported and called.

    Raises:
        WeightsError: the file is missing, truncated, or not a network of this version.
    """
    description = read_description(path)
    try:
        network = rebuild(description, imports=imports)
    except (CamshaftError, ValidationError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: can't be rebuilt by this version of camshaft: {error}") from error
    load_weights(network, path, new_layers=True)
    return network


def read_description(path: Path) -> dict[str, Any]:
    """What `describe` said of the network in `path`, without reading its weights.

    Raises:
        WeightsError: the file is missing, truncated or not a network's.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such network file")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        description = json.loads(metadata[METADATA_KEY])
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a whole safetensors file: {error}") from None
    except (KeyError, json.JSONDecodeError):
        raise WeightsError(f"{path}: holds weights but not the description of a camshaft network") from None
    if not isinstance(description, dict):
        raise WeightsError(f"{path}: holds weights but not the description of a camshaft network")
    return description

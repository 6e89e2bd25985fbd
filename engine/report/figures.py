"""Figures of the papers, made from what a run left: no stage is run, and ground truth is shown only where asked for."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from PIL import Image, PngImagePlugin
from torch import Tensor

from camshaft.engine.data import DataSet
from camshaft.engine.errors import DataError, StoreError
from camshaft.engine.models import Classifier, load_network
from camshaft.engine.models.network_file import Network
from camshaft.engine.models.scales import scaled_size
from camshaft.engine.models.suppression import Layered
from camshaft.engine.recipe.check import suggestion
from camshaft.engine.report.colours import label_colours
from camshaft.engine.report.features import coloured, has_suppression, layer_means, unsuppressed
from camshaft.engine.report.gallery import chosen
from camshaft.engine.report.records import Result, Row, Run, Stage
from camshaft.engine.report.sheet import Row as SheetRow
from camshaft.engine.report.sheet import cell_size, sheet
from camshaft.engine.report.sources import Drawn, Photo, draw_labels, open_source
from camshaft.engine.runtime.files import write_bytes
from camshaft.engine.stages.inference import load
from camshaft.engine.stages.networks import FILE as NETWORK_FILE
from camshaft.engine.stages.networks import check_classes
from camshaft.engine.stages.stage import Product

IMAGES = 3
"""Images of a figure that names none."""
TRUTH = "ground truth"
PICTURED = (Product.MAPS, Product.CRF, Product.MASKS)

Draw = Callable[[Photo], Drawn]


@dataclass(frozen=True)
class Figure:
    """A picture, and in words what it shows."""

    picture: Image.Image
    words: str


def maps_figure(
    run: Run, data: DataSet, stages: Sequence[str], images: Sequence[str] | None, split: str, *, truth: bool
) -> Figure:
    """Each image beside what several stages made of it: maps as heat, masks as tints (DRS, Figure 1).

    Args:
        run: a complete run.
        data: its data set.
        stages: ids of stages with maps or masks, in the order of the columns.
        images: ids, in the order of the rows; None for a few, chosen by their tags.
        split: the images' split.
        truth: add the ground-truth masks as a last column.

    Raises:
        StoreError: a stage is not there, has no pictures, or was not made for this split.
        DataError: the split has no such image, or an image has no ground truth.
    """
    columns = [column for name in stages for column in _columns(run, name, split, data, None)]
    return _drawn(run, data, columns, images, split, truth=truth)


def variants_figure(
    runs: dict[str, Run], data: DataSet, stage: str, images: Sequence[str] | None, split: str, *, truth: bool
) -> Figure:
    """Each image beside what one stage made of it in each of several runs, by their names (DRS, Figure 4).

    Args and errors: as `maps_figure`.
    """
    columns = [column for name, run in runs.items() for column in _columns(run, stage, split, data, name)]
    return _drawn(next(iter(runs.values())), data, columns, images, split, truth=truth)


def features_figure(
    run: Run,
    data: DataSet,
    networks: Sequence[str],
    layers: Sequence[str] | None,
    images: Sequence[str] | None,
    split: str,
    *,
    with_unsuppressed: bool,
) -> Figure:
    """The mean feature map of each layer, a row for each image and network (DRS, Figure 5).

    Args:
        run: a complete run.
        data: its data set.
        networks: ids of stages that made networks of the same layers.
        layers: the layers, in the order of the columns; None for all that the first network has.
        images: ids; None for a few, chosen by their tags.
        split: the images' split.
        with_unsuppressed: show each network that has suppression again, with it switched off.

    Raises:
        StoreError: a stage is not there or has no network; or a network lacks one of the layers.
        DataError: the split has no such image.
        WeightsError: a network's file is damaged.
    """
    opened: dict[str, Network] = {}
    for name in networks:
        opened[name] = network = network_of(run, name)
        if with_unsuppressed:
            if not has_suppression(network):
                raise StoreError(f"{run.folder}: the network of {name!r} has no suppression to switch off")
            opened[f"{name}, suppression off"] = unsuppressed(network)
    wanted = _layers(run, opened, layers)
    rows = []
    ids = ids_of(run, data, images, split)
    for image_id in ids:
        photo = photo_of(data, image_id)
        for name, network in opened.items():
            means = layer_means(network, image_for(network, data, image_id, network.stride))
            cells = [coloured(means[layer], photo.size) for layer in wanted]
            rows.append(SheetRow(f"{image_id}: {name}", (photo.pixels, *cells)))
    words = f"mean feature maps of {', '.join(opened)} at {', '.join(wanted)}; {split}: {', '.join(ids)}"
    return Figure(sheet(["image", *wanted], rows), f"{run.record.name}: {words}")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, with what it shows as the file's description, whole or not at all."""
    information = PngImagePlugin.PngInfo()
    information.add_itxt("Description", figure.words)
    buffer = io.BytesIO()
    figure.picture.save(buffer, "PNG", pnginfo=information, optimize=True)
    write_bytes(path, buffer.getvalue())


def _drawn(
    run: Run,
    data: DataSet,
    columns: Sequence[tuple[str, Draw]],
    images: Sequence[str] | None,
    split: str,
    *,
    truth: bool,
) -> Figure:
    ids = ids_of(run, data, images, split)
    columns = [*columns, *([(TRUTH, _truth(data))] if truth else [])]
    rows = []
    for image_id in ids:
        photo = photo_of(data, image_id)
        rows.append(SheetRow(image_id, (photo.pixels, *(draw(photo).pixels for _, draw in columns))))
    names = [name for name, _ in columns]
    shown = "ground-truth masks are shown" if truth else "no ground truth is shown"
    words = f"{run.record.name}: {', '.join(names)}; {split}: {', '.join(ids)}; {shown}"
    return Figure(sheet(["image", *names], rows), words)


def _columns(run: Run, name: str, split: str, data: DataSet, heading: str | None) -> list[tuple[str, Draw]]:
    """A stage's columns: one, or one for each α of CRF masks."""
    stage = stage_of(run, name, lambda one: one.record.produces in PICTURED)
    if not (stage.folder / split).is_dir():
        has = ", ".join(one for one in ("train", "val") if (stage.folder / one).is_dir())
        raise StoreError(f"{stage.folder}: {name!r} was not made for {split}; it has {has}")
    alphas = stage.record.settings.get("alphas", ()) if stage.record.produces == Product.CRF else (None,)
    columns: list[tuple[str, Draw]] = []
    for alpha in alphas:
        label = heading or name
        row = Row(of=name, name=name, product=stage.record.produces, alpha=alpha)
        source = open_source(run, Result(split, row), label_colours(data))
        columns.append((label if alpha is None else f"{label} alpha={alpha:g}", source.draw))
    return columns


def _truth(data: DataSet) -> Draw:
    def draw(photo: Photo) -> Drawn:
        mask = data.mask(photo.id)
        if mask is None:
            raise DataError(f"{data.name}: image {photo.id!r} has no mask to show")
        return draw_labels(photo, mask, data.classes, label_colours(data))

    return draw


def stage_of(run: Run, name: str, fits: Callable[[Stage], bool]) -> Stage:
    """A run's stage by its id.

    Raises:
        StoreError: there is none, or it does not fit; the message says which do.
    """
    stage = run.stage(name)
    if stage is None or not fits(stage):
        known = [one.id for one in run.stages if fits(one)]
        what = "the run has no stage" if stage is None else "this figure can't be made of"
        hint = suggestion(name, known) if stage is None else ""
        raise StoreError(f"{run.folder}: {what} {name!r}{hint} (there are {', '.join(known) or 'none that fit'})")
    return stage


def network_of(run: Run, name: str) -> Network:
    """The network that a stage made, on the CPU, in inference mode.

    Raises:
        StoreError: there is no such stage, or it made none.
        WeightsError: its file is damaged.
    """
    stage = stage_of(run, name, lambda one: (one.folder / NETWORK_FILE).is_file())
    # The run's own file, as in `open_network`: its recipe names the import path of a backbone too.
    return load_network(stage.folder / NETWORK_FILE, imports=True)


def classifier_of(run: Run, data: DataSet, name: str) -> Classifier:
    """The classifier that a stage made, as `network_of` has it.

    Raises:
        StoreError: also if the stage made something else.
        WeightsError: also if it was made for other classes than the data's.
    """
    network = network_of(run, name)
    if not isinstance(network, Classifier):
        raise StoreError(f"{run.folder}: {name!r} made a {type(network).__name__}, and a classifier is needed")
    check_classes(run.folder, network, data.classes)
    return network


def image_for(network: Network, data: DataSet, image_id: str, stride: int | None) -> Tensor:
    """An image as `network` sees it at scale 1, normalised (1, 3, H, W); `stride` as `scaled_size` has it."""
    image = load(data, [image_id], network.normalization, torch.device("cpu"))
    size = scaled_size((image.shape[2], image.shape[3]), 1.0, stride)
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False, antialias=True)


def ids_of(run: Run, data: DataSet, images: Sequence[str] | None, split: str) -> list[str]:
    """The images of a figure: those that are asked for, or a few chosen by their tags.

    Raises:
        DataError: the split has no such image.
    """
    if images is None:
        return [image_id for image_id, _ in chosen(run, data, split, IMAGES)]
    known = data.ids(split)
    for image_id in images:
        if image_id not in known:
            hint = suggestion(image_id, known, f" (such as {', '.join(known[:3])})")
            raise DataError(f"{data.name}: {split} has no image {image_id!r}{hint}")
    return list(images)


def photo_of(data: DataSet, image_id: str) -> Photo:
    """The image at the size of a cell."""
    image = data.image(image_id)
    height, width = cell_size(*image.shape[:2])
    return Photo(image_id, np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)))


def _layers(run: Run, networks: dict[str, Network], layers: Sequence[str] | None) -> list[str]:
    """The layers to show, which every network must have."""
    by_network = {name: list(net.layers()) if isinstance(net, Layered) else [] for name, net in networks.items()}
    wanted = list(layers) if layers is not None else next(iter(by_network.values()))
    for name, known in by_network.items():
        if lacking := [layer for layer in wanted if layer not in known]:
            raise StoreError(f"{run.folder}: {name!r} has no layer {lacking[0]!r}; it has {', '.join(known) or 'none'}")
    return wanted

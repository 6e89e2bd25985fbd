"""OC-CSE as stages of a run: a guide that learns along, erase-and-infer, and the figures that are drawn from them."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from camshaft.engine.cli.main import main
from camshaft.engine.errors import CamshaftError, DataError, StoreError, TrainingError, WeightsError
from camshaft.engine.models import load_network, save_network
from camshaft.engine.pipeline import record
from camshaft.engine.pipeline.recipe import load
from camshaft.engine.pipeline.run import data_of_run, run
from camshaft.engine.report.balance import balance
from camshaft.engine.report.records import Run, read_run
from camshaft.engine.report.rounds import rounds_figure
from camshaft.engine.report.sheet import CELL_WIDTH, GAP, MARGIN
from camshaft.engine.runtime.console import Console
from camshaft.engine.runtime.metrics import read_metrics
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.stop import StopFlag
from camshaft.engine.stages.erase import Erase

NETWORK: Mapping[str, Any] = {
    "backbone": {"name": "efficientnet_lite0", "output_stride": 16},
    "iterations": 1,
    "batch_size": 2,
    "augmentation": {"resize": {"long_side": [64, 80]}, "flip": 0.5, "crop": 64},
    "log_every": 1,
}
AGAIN: Mapping[str, Any] = {"kind": "erase_and_infer", "network": "ordinary", "splits": ["val"], "scales": [1.0]}
RECIPE: Mapping[str, Any] = {
    "name": "occse",
    "data": {"kind": "scenes", "train": 6, "val": 3, "height": 64, "width": 80, "seed": 3},
    "stages": [
        {"id": "ordinary", "kind": "classify", **NETWORK},
        {"id": "cgnet", "kind": "erase", "guide": "ordinary", "guidance": "learning", **NETWORK},
        {"id": "again", **AGAIN, "rounds": 2},
        {"id": "each", **AGAIN, "rounds": 1, "erasing": "class_specific", "flip": False},
        {"id": "scores", "kind": "evaluate", "of": ["again", "each"], "split": "val", "sweep": None},
    ],
}


def perform(recipe: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    run(load(path), folder / "run", ranks=Ranks(), console=Console(enabled=False), stop=StopFlag())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small run; tests don't change it."""
    folder = tmp_path_factory.mktemp("occse")
    perform(RECIPE, folder)
    return read_run(folder / "run")


def folder_of(done: Run, stage: str) -> Path:
    found = done.stage(stage)
    assert found is not None
    return found.folder


def test_a_guide_that_learns_is_taught_beside_the_network_and_not_kept(done: Run) -> None:
    network, ordinary = (load_network(folder_of(done, name) / "network.safetensors") for name in ("cgnet", "ordinary"))
    assert network.state_dict().keys() == ordinary.state_dict().keys()
    (first,) = read_metrics(folder_of(done, "cgnet") / "metrics.jsonl")
    assert first["guide"] > 0
    terms = first["classification"] + first["weight"] * first["erasing"] + first["guide"]
    assert first["loss"] == pytest.approx(terms, rel=1e-4)


def test_images_without_tags_take_no_part(done: Run) -> None:
    tagged = data_of_run(done.folder).tags("train").any(1)
    stage = done.stage("cgnet")
    assert stage is not None
    assert stage.record.figures["images"] == tagged.sum() < len(tagged)


def test_rounds_are_drawn_with_what_is_left_between_them(done: Run) -> None:
    data = data_of_run(done.folder)
    ids = [image_id for image_id, row in zip(data.ids("val"), data.tags("val"), strict=True) if row.any()][:2]
    figure = rounds_figure(done, data, "again", ids, "val")
    assert figure.picture.width == 2 * MARGIN + 7 * CELL_WIDTH + 6 * GAP
    assert "2 rounds" in figure.words
    pixels = np.asarray(figure.picture).astype(float)
    cells = [pixels[60:200, MARGIN + k * (CELL_WIDTH + GAP) :][:, :CELL_WIDTH] for k in range(7)]
    image, _, left, _, later, *_ = cells
    # What is erased has one colour; of the second round more is.
    changed = [float((np.abs(cell - image) > 12).any(2).mean()) for cell in (left, later)]
    assert 0 < changed[0] <= changed[1]


def test_each_class_has_its_own_row_where_it_is_searched_for_alone(done: Run) -> None:
    data = data_of_run(done.folder)
    tags = data.tags("val")
    several = next(k for k in range(len(tags)) if tags[k].sum() > 1)
    image_id = data.ids("val")[several]
    one = rounds_figure(done, data, "again", [image_id], "val").picture.height
    each = rounds_figure(done, data, "each", [image_id], "val").picture.height
    assert each > one + 100


def test_the_balance_of_an_image_by_the_command_line(
    done: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = data_of_run(done.folder)
    tags = data.tags("val")
    row = next(k for k in range(len(tags)) if tags[k].any())
    image_id, target = data.ids("val")[row], data.classes[int(np.flatnonzero(tags[row])[0])]
    out = tmp_path / "b.png"
    command = ["figure", "balance", str(done.folder), "--stage", "cgnet", "--image", image_id, "--target", target]
    assert main([*command, "--out", str(out)]) == 0
    assert [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()] == [
        str(out.with_suffix(suffix)) for suffix in (".png", ".csv", ".svg")
    ]
    lines = out.with_suffix(".csv").read_text().splitlines()
    erased = [float(line.split(",")[1]) for line in lines[1:]]
    assert erased == sorted(erased)
    assert erased[0] == 0


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda r, d: rounds_figure(r, d, "cgnet", None, "val"), StoreError, "made of 'cgnet' (there are again, each)"),
        (lambda r, d: balance(r, d, "again", d.ids("val")[0], "x", "val"), StoreError, "(there are cgnet)"),
        (lambda r, d: balance(r, d, "cgnet", d.ids("val")[0], "unicorn", "val"), DataError, "has no tag 'unicorn'"),
        (lambda r, d: balance(r, d, "cgnet", "nowhere", "x", "val"), DataError, "val has no image 'nowhere'"),
    ],
)
def test_what_can_not_be_drawn(
    done: Run, draw: Callable[[Run, Any], object], error: type[CamshaftError], message: str
) -> None:
    with pytest.raises(error) as raised:
        draw(done, data_of_run(done.folder))
    assert message in str(raised.value)


def test_guides_and_guidance_go_together_in_recipes() -> None:
    stage = {"id": "cgnet", "kind": "erase", **NETWORK}
    with pytest.raises(ValidationError, match="guidance: learning needs guide, the id of the stage that trains"):
        Erase.model_validate({**stage, "guidance": "learning"})
    with pytest.raises(ValidationError, match="guidance: shared takes no guide"):
        Erase.model_validate({**stage, "guidance": "shared", "guide": "ordinary"})


def replaced(done: Run, folder: Path, change: Callable[[Path], None]) -> None:
    """Run CGNet again, after `change` to the ordinary classifier's file."""
    shutil.copytree(done.folder, folder / "run")
    (trained,) = (folder / "run/stages").glob("cgnet-*")
    shutil.rmtree(trained)
    (ordinary,) = (folder / "run/stages").glob("ordinary-*")
    change(ordinary / "network.safetensors")
    perform(RECIPE, folder)


def test_a_guide_cut_short_stops_the_run_in_one_line(done: Run, tmp_path: Path) -> None:
    def cut(file: Path) -> None:
        file.write_bytes(file.read_bytes()[:-64])

    with pytest.raises(StoreError, match=r"network\.safetensors: damaged: \d+ bytes, expected \d+; remove") as raised:
        replaced(done, tmp_path, cut)
    assert "\n" not in str(raised.value)


def test_a_guide_with_a_flipped_bit_stops_the_run_in_one_line(done: Run, tmp_path: Path) -> None:
    def flip(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)

    with pytest.raises(StoreError, match=r"network\.safetensors: damaged: its SHA-256 is not the .*; remove") as raised:
        replaced(done, tmp_path, flip)
    assert "\n" not in str(raised.value)


def test_a_guide_of_other_classes_stops_the_run_in_one_line(done: Run, tmp_path: Path) -> None:
    def other(file: Path) -> None:
        network = load_network(file)
        network.classes = ("tiger", *network.classes[1:])
        save_network(file, network)
        record.write(file.parent, json.loads((file.parent / record.FILE).read_text()))

    with pytest.raises(WeightsError, match=r"was made for the classes tiger, .* but the data has") as raised:
        replaced(done, tmp_path, other)
    assert "\n" not in str(raised.value)


def test_figures_are_not_drawn_with_a_network_of_other_classes(done: Run, tmp_path: Path) -> None:
    shutil.copytree(done.folder, tmp_path / "run")
    (folder,) = (tmp_path / "run/stages").glob("ordinary-*")
    network = load_network(folder / "network.safetensors")
    network.classes = ("tiger", *network.classes[1:])
    save_network(folder / "network.safetensors", network)
    changed, data = read_run(tmp_path / "run"), data_of_run(done.folder)
    row = int(np.flatnonzero(data.tags("val").any(1))[0])
    image_id, target = data.ids("val")[row], data.classes[int(np.flatnonzero(data.tags("val")[row])[0])]
    for draw in (
        lambda: balance(changed, data, "cgnet", image_id, target, "val"),
        lambda: rounds_figure(changed, data, "again", [image_id], "val"),
    ):
        with pytest.raises(WeightsError, match=r"was made for the classes tiger, .*, but the data has ") as raised:
            draw()
        assert "\n" not in str(raised.value)


def test_data_without_any_tag_has_nothing_to_erase(tmp_path: Path) -> None:
    (tmp_path / "data/images").mkdir(parents=True)
    Image.new("RGB", (80, 64), (90, 120, 30)).save(tmp_path / "data/images/a.png")
    (tmp_path / "data/tags.csv").write_text("id,cat,dog\na,0,0\n")
    stage = {"id": "cgnet", "kind": "erase", "guidance": "shared", **NETWORK}
    with pytest.raises(TrainingError, match=r"stages\.cgnet: no image of the train split can be trained on"):
        perform(
            {"name": "few", "data": {"kind": "folder", "root": "data", "val_fraction": 0}, "stages": [stage]}, tmp_path
        )

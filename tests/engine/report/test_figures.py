"""Figures of maps and masks: what each cell shows, and what can't be drawn."""

import numpy as np
import pytest
from PIL import Image

from camshaft.engine.errors import DataError, StoreError
from camshaft.engine.report.figures import features_figure, maps_figure, save_figure, variants_figure
from camshaft.engine.report.records import read_run
from camshaft.engine.report.sheet import CELL_WIDTH, GAP, HEADING, MARGIN, NAME, cell_size


def height_of(scenes, image_id):
    return cell_size(*scenes.size(image_id))[0]


def cells(picture, scenes, ids, row, count):
    """The cells of a row, float (H, W, 3) each."""
    top = MARGIN + HEADING + sum(height_of(scenes, image_id) + NAME for image_id in ids[:row])
    bottom = top + height_of(scenes, ids[row])
    left = [MARGIN + number * (CELL_WIDTH + GAP) for number in range(count)]
    return [np.asarray(picture)[top:bottom, x : x + CELL_WIDTH].astype(float) for x in left]


def shown(scenes, image_id):
    size = (CELL_WIDTH, height_of(scenes, image_id))
    return np.asarray(Image.fromarray(scenes.image(image_id)).resize(size, Image.Resampling.LANCZOS)).astype(float)


def truth_at_cell_size(scenes, image_id):
    size = (CELL_WIDTH, height_of(scenes, image_id))
    return np.asarray(Image.fromarray(scenes.mask(image_id)).resize(size, Image.Resampling.NEAREST))


def test_a_row_an_image_a_column_a_stage(whole_run, scenes):
    ids = [scenes.ids("val")[4], scenes.ids("val")[1]]
    stages = ["maps_cgnet", "crf", "prediction"]
    figure = maps_figure(read_run(whole_run), scenes, stages, ids, "val", truth=False)
    height = 2 * MARGIN + HEADING + sum(height_of(scenes, image_id) + NAME for image_id in ids)
    assert figure.picture.size == (2 * MARGIN + 5 * CELL_WIDTH + 4 * GAP, height)
    for row, image_id in enumerate(ids):
        image, maps, *_masks, prediction = cells(figure.picture, scenes, ids, row, 5)
        assert (image == shown(scenes, image_id)).all()
        colour = np.abs(maps - maps.mean(2, keepdims=True)).sum(2)
        inside = truth_at_cell_size(scenes, image_id) > 0
        assert colour[inside].mean() > 2 * colour[~inside].mean(), "maps glow where the objects are"
        assert np.abs(prediction - image)[inside].mean() > np.abs(prediction - image)[~inside].mean()
    columns = "maps_cgnet, crf alpha=4, crf alpha=24, prediction"
    assert figure.words.endswith(f"{columns}; val: {', '.join(ids)}; no ground truth is shown")


def test_ground_truth_only_where_asked_for_and_said_so(whole_run, scenes, tmp_path):
    ids = [scenes.ids("val")[0]]
    run = read_run(whole_run)
    figure = maps_figure(run, scenes, ["labels"], ids, "val", truth=True)
    assert "ground truth; " in figure.words
    assert figure.words.endswith("ground-truth masks are shown")
    _, _, truth = cells(figure.picture, scenes, ids, 0, 3)
    inside = truth_at_cell_size(scenes, ids[0]) > 0
    assert np.abs(truth - shown(scenes, ids[0]))[inside].mean() > 20
    save_figure(figure, tmp_path / "figures/f.png")
    with Image.open(tmp_path / "figures/f.png") as saved:
        assert saved.text["Description"] == figure.words
        assert (np.asarray(saved) == np.asarray(figure.picture)).all()
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["f.png"]


def test_images_are_chosen_where_none_are_named(whole_run, scenes):
    run = read_run(whole_run)
    figure = maps_figure(run, scenes, ["maps_ordinary"], None, "val", truth=False)
    assert figure.words.count("val-") == 3
    assert figure.words == maps_figure(run, scenes, ["maps_ordinary"], None, "val", truth=False).words


def test_variants_have_a_column_each(whole_run, builder, scenes):
    builder.maps("maps_cgnet", 4, 0.4)
    runs = {"one": read_run(whole_run), "two": read_run(builder.finish())}
    ids = [scenes.ids("val")[2]]
    figure = variants_figure(runs, scenes, "maps_cgnet", ids, "val", truth=False)
    columns = cells(figure.picture, scenes, ids, 0, 3)[1:]
    assert (columns[0] != columns[1]).any()
    for run, column in zip(runs.values(), columns, strict=True):
        alone = maps_figure(run, scenes, ["maps_cgnet"], ids, "val", truth=False)
        assert (column == cells(alone.picture, scenes, ids, 0, 2)[1]).all()
    assert "one, two" in figure.words


@pytest.mark.parametrize(
    ("stage", "image", "message"),
    [
        ("maps_cgne", None, "the run has no stage 'maps_cgne'; did you mean 'maps_cgnet'? (there are maps_ordinary, "),
        ("ordinary", None, "this figure can't be made of 'ordinary' (there are maps_ordinary, maps_cgnet, crf, labels"),
        ("maps_cgnet", "val-00001", "val has no image 'val-00001'; did you mean 'val-000001'?"),
        ("maps_cgnet", "zebra", "val has no image 'zebra' (such as val-000000, val-000001, val-000002)"),
    ],
)
def test_what_can_not_be_drawn(whole_run, scenes, stage, image, message):
    with pytest.raises((StoreError, DataError)) as error:
        maps_figure(read_run(whole_run), scenes, [stage], image and [image], "val", truth=False)
    assert message in str(error.value)


def test_a_split_that_a_stage_was_not_made_for(whole_run, scenes):
    with pytest.raises(StoreError, match="'labels' was not made for train; it has val"):
        maps_figure(read_run(whole_run), scenes, ["labels"], None, "train", truth=False)


def test_features_need_a_network(whole_run, scenes):
    with pytest.raises(StoreError, match="can't be made of 'ordinary' \\(there are none that fit\\)"):
        features_figure(
            read_run(whole_run), scenes, ["ordinary"], None, None, "val", with_unsuppressed=False
        )  # fmt: skip

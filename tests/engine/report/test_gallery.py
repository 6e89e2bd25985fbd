import numpy as np
import pytest
from PIL import Image

from camshaft.engine.errors import ImageError
from camshaft.engine.report.gallery import chosen, write_galleries
from camshaft.engine.report.records import read_run
from camshaft.engine.report.sources import LONG_SIDE, Photo, in_words


def paint(run, data, folder, count=2):
    folder.mkdir(exist_ok=True)
    return write_galleries(read_run(run), data, folder, count)


def test_the_choice_is_always_the_same_and_holds_every_class_it_can(whole_run, scenes):
    run = read_run(whole_run)
    images = chosen(run, scenes, "val", 6)
    assert images == chosen(run, scenes, "val", 6)
    assert len({image_id for image_id, _ in images}) == 6
    in_split = {scenes.classes[k] for k in np.flatnonzero(scenes.tags("val").any(0))}
    assert {name for _, tags in images for name in tags} == in_split
    assert len(chosen(run, scenes, "val", 99)) == 10


def test_images_that_were_left_out_are_not_chosen(builder):
    builder.skipped = [{"split": "val", "id": image_id, "reason": "truncated"} for image_id in builder.ids[1:]]
    run = read_run(builder.finish())
    assert [image_id for image_id, _ in chosen(run, builder.data, "val", 5)] == [builder.ids[0]]


def test_columns_are_image_truth_and_results_in_order(whole_run, scenes, tmp_path):
    (gallery,) = paint(whole_run, scenes, tmp_path)
    names = [column.name for column in gallery.columns]
    assert names == ["image", "truth", "maps_ordinary", "maps_cgnet", "crf α=4", "crf α=24", "labels", "prediction"]
    for row in gallery.rows:
        assert [cell.column for cell in row.cells] == names
    assert gallery.columns[2].miou == "44.3"


def test_pictures_show_the_photograph_where_nothing_lies_on_it(whole_run, scenes, tmp_path):
    (gallery,) = paint(whole_run, scenes, tmp_path, 1)
    image, truth = (np.asarray(Image.open(tmp_path / cell.file)).astype(int) for cell in gallery.rows[0].cells[:2])
    photo = scenes.image(gallery.rows[0].id).astype(int)
    mask = scenes.mask(gallery.rows[0].id)
    assert np.abs(image - photo).mean() < 8
    on_labels, elsewhere = np.abs(truth - image)[mask > 0].mean(), np.abs(truth - image)[mask == 0].mean()
    assert on_labels > 2 * elsewhere


def test_the_legend_names_what_is_drawn(run, scenes, tmp_path):
    (gallery,) = paint(run, scenes, tmp_path, 10)
    labels = set(np.unique(np.concatenate([scenes.mask(i).ravel() for i in scenes.ids("val")]))) - {0, 255}
    named = [scenes.classes[label - 1] for label in sorted(labels)]
    assert [key.name for key in gallery.legend] == [*named, "no label"]
    assert [key.is_class for key in gallery.legend] == [True] * len(named) + [False]
    assert len({key.colour for key in gallery.legend}) == len(gallery.legend)


def test_an_image_that_can_not_be_read_any_more(run, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "image", lambda image_id: (_ for _ in ()).throw(ImageError(f"{image_id}: gone")))
    (gallery,) = paint(run, scenes, tmp_path, 1)
    (cell,) = gallery.rows[0].cells
    assert cell.file is None
    assert cell.words.endswith(": gone")


def test_without_masks_there_is_no_truth(run, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "has_masks", lambda _: False)
    (gallery,) = paint(run, scenes, tmp_path, 1)
    assert [column.name for column in gallery.columns][:2] == ["image", "maps_ordinary"]


def test_one_image_without_a_mask(run, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "mask", lambda _: None)
    (gallery,) = paint(run, scenes, tmp_path, 1)
    assert (gallery.rows[0].cells[1].file, gallery.rows[0].cells[1].words) == (None, "has no mask")


@pytest.mark.parametrize("size", [(1, 1), (63, 100), (2000, 1000), (3, 5000)])
def test_large_images_are_brought_down(size):
    photo = Photo.shown("a", np.zeros((*size, 3), np.uint8))
    assert max(photo.size) == min(max(size), LONG_SIDE)
    assert min(photo.size) >= 1


def test_labels_in_words():
    labels = np.zeros((10, 10), np.uint8)
    assert in_words(labels, ("cat", "dog")) == "background only"
    labels[0], labels[1:4], labels[9, 0] = 1, 2, 255
    assert in_words(labels, ("cat", "dog")) == "dog 30 %, cat 10 %, no label 1 %"

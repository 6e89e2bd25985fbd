from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from camshaft.engine.errors import StoreError
from camshaft.engine.stores import Layout, plan

IMAGES = st.lists(
    st.tuples(st.lists(st.integers(0, 4), unique=True, max_size=5), st.integers(1, 12), st.integers(1, 12)), max_size=30
)


def layout_of(images, **options) -> Layout:
    names = [f"i{number}" for number in range(len(images))]
    grids = np.array([image[1:] for image in images]).reshape(-1, 2)
    classes = ["a", "b", "c", "d", "e"]
    return plan(names, [image[0] for image in images], grids, grids * 8, classes=classes, **options)


@given(images=IMAGES, block_images=st.integers(1, 10), shard=st.integers(1, 900), chunk=st.sampled_from([8, 64, 300]))
def test_every_value_has_one_place_inside_its_block(images, block_images, shard, chunk):
    layout = layout_of(images, block_images=block_images, shard_values=shard, chunk_values=chunk)
    assert layout.shard_values % chunk == 0
    assert [index for block in range(layout.block_count) for index in layout.block(block)] == list(range(len(images)))
    end = 0
    for block in range(layout.block_count):
        assert 1 <= len(layout.block(block)) <= block_images
        end = block * layout.shard_values
        for index in layout.block(block):
            start, size = int(layout.images[index, 0]), int(np.prod(layout.shape(index)))
            assert start >= end
            end = start + size
            one_chunk = size == 0 or start // chunk == (end - 1) // chunk
            assert one_chunk or (size > chunk and start % chunk == 0)
            assert layout.classes_of(index).tolist() == images[index][0]
        assert end <= (block + 1) * layout.shard_values


def test_hand_worked_places():
    #      6 values, 4 fit in the chunk of 10, 2 don't fit in what is left of it, 12 are more than a chunk, none, 4
    images = [([0], 2, 3), ([1], 2, 2), ([0], 1, 2), ([0, 1], 2, 3), ([], 5, 5), ([4], 4, 1)]
    layout = layout_of(images, block_images=5, shard_values=1000, chunk_values=10)
    assert layout.blocks.tolist() == [0, 5, 6]
    assert layout.shard_values == 40  # 32 values in the longest block
    assert layout.images[:, 0].tolist() == [0, 6, 10, 20, 32, 40]


def test_a_block_closes_at_its_values_or_its_images():
    images = [([0], 2, 5)] * 6
    assert layout_of(images, shard_values=25, chunk_values=5).blocks.tolist() == [0, 2, 4, 6]
    assert layout_of(images, block_images=4, chunk_values=5).blocks.tolist() == [0, 4, 6]
    assert layout_of(images, shard_values=3, chunk_values=5).blocks.tolist() == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("images", "in_a_block"), [(100, 16), (1920, 30), (30_000, 256)])
def test_a_block_has_a_64th_of_the_images_within_bounds(images, in_a_block):
    assert len(layout_of([([0], 1, 1)] * images).block(0)) == in_a_block


def test_a_saved_layout_is_the_same(tmp_path: Path):
    images = [([0, 3], 2, 3), ([], 4, 4), ([2], 1, 1)]
    layout = layout_of(images, block_images=2, encoding="uint12")
    layout.save(tmp_path / "store")
    loaded = Layout.load(tmp_path / "store")
    assert loaded.digest() == layout.digest()
    assert loaded.ids == layout.ids
    assert loaded.encoding == "uint12"


def test_a_layout_of_nothing(tmp_path: Path):
    layout = layout_of([])
    layout.save(tmp_path / "store")
    assert Layout.load(tmp_path / "store").digest() == layout.digest()
    assert layout.block_count == 0
    with pytest.raises(IndexError):
        layout.block(0)


@given(st.data())
def test_the_digest_tells_layouts_apart(data):
    images = [([0, 3], 2, 3), ([1], 4, 4)]
    other = data.draw(
        st.sampled_from([[([3, 0], 2, 3), ([1], 4, 4)], [([0, 3], 3, 2), ([1], 4, 4)], [([0, 3], 2, 3)], images[::-1]])
    )
    assert layout_of(images).digest() == layout_of(images).digest()
    assert layout_of(other).digest() != layout_of(images).digest()
    assert layout_of(images, encoding="uint8").digest() != layout_of(images).digest()
    assert layout_of(images, chunk_values=4096).digest() != layout_of(images).digest()


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "a/../../x", "..", ".", "", "a//b", "a\\b", "a\nb", "a\0b", "./a", "a/", ".part-a", "a/b"],
)
def test_an_id_that_could_leave_its_folder_or_table_is_refused(name):
    with pytest.raises(StoreError, match="is not an id"):
        plan([name], [[]], np.ones((1, 2)), np.ones((1, 2)), classes=[])


def test_an_id_twice_is_an_error():
    with pytest.raises(StoreError, match=r"'same'.*twice"):
        plan(["same", "same"], [[], []], np.ones((2, 2)), np.ones((2, 2)), classes=[])


@pytest.mark.parametrize("indices", [[2], [-1], [0, 0]])
def test_wrong_classes_are_an_error(indices):
    with pytest.raises(ValueError, match="'a'"):
        plan(["a"], [indices], np.ones((1, 2)), np.ones((1, 2)), classes=["one", "two"])


def test_lengths_and_sizes_are_checked():
    with pytest.raises(ValueError, match="as many"):
        plan(["a"], [], np.ones((1, 2)), np.ones((1, 2)), classes=[])
    with pytest.raises(ValueError, match="1×1"):
        plan(["a"], [[]], np.array([[0, 3]]), np.ones((1, 2)), classes=[])


def test_what_is_not_a_store_is_named(tmp_path: Path):
    with pytest.raises(StoreError, match="not a map store"):
        Layout.load(tmp_path)

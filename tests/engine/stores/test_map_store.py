import multiprocessing
import pickle
import re
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from camshaft.engine.errors import StoreError
from camshaft.engine.stores import MapStore, MapStoreWriter, finalize, plan, reader
from camshaft.engine.stores.shard import shard_path

ENCODINGS = ["uint8", "uint10", "uint12", "float16"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_was_written_is_read(tmp_path: Path, scene_of, encoding):
    scene = scene_of(encoding=encoding)
    store = scene.write(tmp_path / "store")
    assert store.ids == scene.layout.ids
    assert store.classes == scene.layout.classes
    assert len(store) == len(scene.maps)
    assert store.provenance == {"made_by": "a test"}
    bound = scene.layout.codec.error_bound
    for index, maps in enumerate(store):
        assert maps.values.dtype == np.float32
        assert maps.values.shape == scene.maps[index].shape
        assert np.abs(maps.values - scene.maps[index]).max(initial=0) <= bound
        assert maps.classes.tolist() == scene.layout.classes_of(index).tolist()
        assert maps.image_size == tuple(scene.layout.images[index, 4:].tolist())
    store.verify()


@given(data=st.data(), seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_blocks_and_reads(tmp_path_factory, scene_of, data, seed):
    path = tmp_path_factory.mktemp("any") / "store"
    scene = scene_of(images=data.draw(st.integers(1, 20)), seed=seed)
    writer = MapStoreWriter.create(path, scene.layout)
    for block in data.draw(st.permutations(range(scene.layout.block_count))):
        writer.write_block(block, scene.of(block))
    finalize(path, {})
    store = MapStore.open(path)
    for index in data.draw(st.lists(st.integers(0, len(scene.maps) - 1), max_size=30)):
        difference = np.abs(store.read(index).values - scene.maps[index])
        assert difference.max(initial=0) <= scene.layout.codec.error_bound


def test_a_given_buffer_is_used(tmp_path: Path, scene):
    store = scene.write(tmp_path / "store")
    buffer = np.full(30 * 30 * 4, np.nan, np.float32)
    for index in range(len(store)):
        maps = store.read(index, out=buffer)
        assert maps.values.size == 0 or np.shares_memory(maps.values, buffer)
        assert (maps.values == store.read(index).values).all()


def test_images_are_found_by_name(tmp_path: Path, scene):
    store = scene.write(tmp_path / "store")
    assert [store.index(name) for name in store.ids] == list(range(len(store)))
    with pytest.raises(StoreError, match="no image 'nobody'"):
        store.index("nobody")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_zarr_python_opens_it(tmp_path: Path, scene_of, encoding):
    scene = scene_of(encoding=encoding)
    store = scene.write(tmp_path / "store")
    group = zarr.open_group(tmp_path / "store", mode="r")
    assert group.attrs["camshaft"]["classes"] == list(store.classes)
    codes, images = group["values"], group["images"][:]
    assert images.tolist() == scene.layout.images.tolist()
    assert group["ids"][:].tobytes().decode().split("\n") == list(store.ids)
    for index, (start, count, height, width, _, _) in enumerate(images.tolist()):
        values = codes[start : start + count * height * width].astype(np.float32)
        if encoding != "float16":
            values /= round(1 / codes.attrs["scale_factor"])
        assert (values == store.read(index).values.ravel()).all()


def test_zarr_python_writes_the_same_shards(tmp_path: Path, scene):
    scene.write(tmp_path / "store")
    ours = zarr.open_array(tmp_path / "store" / "values", mode="r")
    codec = scene.layout.codec.zarr_codecs()
    theirs = zarr.create_array(
        tmp_path / "theirs", shape=ours.shape, chunks=ours.chunks, shards=ours.shards, fill_value=0, **codec
    )
    theirs[:] = ours[:]
    for block in range(scene.layout.block_count):
        assert (tmp_path / "theirs" / "c" / str(block)).read_bytes() == shard_path(
            tmp_path / "store", block
        ).read_bytes()


def test_threads_share_a_store(tmp_path: Path, scene, monkeypatch):
    monkeypatch.setattr(reader, "OPEN_SHARDS", 2)
    store = scene.write(tmp_path / "store")
    expected = [maps.values.copy() for maps in store]
    order = np.random.default_rng(0).integers(0, len(store), 600).tolist()
    with ThreadPoolExecutor(8) as pool:
        for index, maps in zip(order, pool.map(store.read, order), strict=True):
            assert (maps.values == expected[index]).all()
    assert len(store._shards) <= 2 + 8


def sums(store: MapStore, indices: list[int]) -> list[float]:
    return [float(store.read(index).values.sum()) for index in indices]


def test_processes_share_a_store(tmp_path: Path, scene):
    store = scene.write(tmp_path / "store")
    indices = list(range(len(store)))
    expected = sums(store, indices)
    copy = pickle.loads(pickle.dumps(store))
    assert sums(copy, indices) == expected
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        assert list(pool.map(sums, [store] * 3, [indices] * 3)) == [expected] * 3


def test_a_store_of_nothing(tmp_path: Path):
    layout = plan([], [], np.zeros((0, 2)), np.zeros((0, 2)), classes=["a"])
    MapStoreWriter.create(tmp_path / "store", layout)
    finalize(tmp_path / "store", {})
    assert list(MapStore.open(tmp_path / "store")) == []


def test_images_without_classes_make_whole_blocks(tmp_path: Path):
    layout = plan(["a", "b"], [[], []], np.full((2, 2), 4), np.full((2, 2), 32), classes=["x"])
    writer = MapStoreWriter.create(tmp_path / "store", layout)
    assert writer.blocks_missing() == [0]
    writer.write_block(0, [np.zeros((0, 4, 4), np.float32)] * 2)
    assert writer.blocks_missing() == []
    finalize(tmp_path / "store", {})
    assert [maps.values.shape for maps in MapStore.open(tmp_path / "store")] == [(0, 4, 4)] * 2


def test_wrong_maps_are_refused_and_named(tmp_path: Path, scene):
    writer = MapStoreWriter.create(tmp_path / "store", scene.layout)
    index = next(index for index in scene.layout.block(0) if scene.maps[index].size)
    name, good = scene.layout.ids[index], scene.maps[index]
    hot, cold, unknown = good.copy(), good.copy(), good.copy()
    hot.flat[-1], cold.flat[-1], unknown.flat[-1] = 1.01, -0.01, np.nan
    for wrong in (good[:, :, :-1], good.astype(np.float64), good[:-1], hot, cold, unknown):
        maps = scene.of(0)
        maps[index] = wrong
        with pytest.raises(ValueError, match=name):
            writer.write_block(0, maps)
    with pytest.raises(ValueError, match="block 0"):
        writer.write_block(0, scene.of(0)[:-1])
    assert writer.blocks_missing() == list(range(scene.layout.block_count))


def test_a_store_without_manifest_is_refused(tmp_path: Path, scene):
    writer = MapStoreWriter.create(tmp_path / "store", scene.layout)
    with pytest.raises(StoreError, match="not complete"):
        MapStore.open(tmp_path / "store")
    with pytest.raises(StoreError, match="blocks are missing"):
        finalize(tmp_path / "store", {})
    writer.write_block(1, scene.of(1))
    assert writer.blocks_missing() == [block for block in range(scene.layout.block_count) if block != 1]
    with pytest.raises(StoreError, match="no such folder"):
        MapStore.open(tmp_path / "elsewhere")


def test_a_store_that_must_be_made_again_names_what_to_remove(tmp_path: Path, scene):
    stage = tmp_path / "stages" / "maps-0123"
    store = stage / "train"
    scene.write(store)
    (store / "manifest.json").unlink()
    with pytest.raises(StoreError, match=re.escape(f"has no manifest; remove {store} and run again")):
        MapStore.open(store)
    (stage / "stage.json").write_text("{}")  # a complete stage goes on with nothing: all of it must go
    with pytest.raises(StoreError, match=re.escape(f"has no manifest; remove {stage} and run again")):
        MapStore.open(store)


def test_another_layout_is_not_written_into(tmp_path: Path, scene, scene_of):
    path = tmp_path / "store"
    MapStoreWriter.create(path, scene.layout)
    with pytest.raises(StoreError, match="exists"):
        MapStoreWriter.create(path, scene.layout)
    assert MapStoreWriter.open_or_create(path, scene.layout).layout.digest() == scene.layout.digest()
    with pytest.raises(StoreError, match="other images"):
        MapStoreWriter.open_or_create(path, scene_of(seed=1).layout)

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from camshaft.engine.errors import StoreError
from camshaft.engine.stores import MapStore, MapStoreWriter, finalize
from camshaft.engine.stores.shard import shard_path


@pytest.fixture
def path(tmp_path: Path, scene) -> Path:
    scene.write(tmp_path / "store")
    return tmp_path / "store"


def read_all(path: Path) -> None:
    for _ in MapStore.open(path):
        pass


def read_block(store: MapStore, block: int) -> None:
    for index in store.layout.block(block):
        store.read(index)


def with_flipped_bit(file: Path, position: int, bit: int) -> bytes:
    whole = file.read_bytes()
    altered = bytearray(whole)
    altered[position] ^= 1 << bit
    file.write_bytes(altered)
    return whole


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_of_any_file_is_noticed_and_named(path, data):
    files = sorted(file for file in path.rglob("*") if file.is_file())
    file = data.draw(st.sampled_from(files))
    position = data.draw(st.integers(0, file.stat().st_size - 1))
    whole = with_flipped_bit(file, position, data.draw(st.integers(0, 7)))
    try:
        with pytest.raises(StoreError, match=re.escape(str(file))):
            read_all(path)
    finally:
        file.write_bytes(whole)
    read_all(path)


@pytest.mark.parametrize("position", [0, 100, -4, -5, -20])
def test_a_flipped_byte_of_a_shard_is_named_by_read_and_verify(path, position):
    file = shard_path(path, 1)
    with_flipped_bit(file, position % file.stat().st_size, 3)
    store = MapStore.open(path)
    with pytest.raises(StoreError, match=re.escape(str(file))):
        read_block(store, 1)
    with pytest.raises(StoreError, match=re.escape(str(file))) as raised:
        store.verify()
    assert str(raised.value).count("\n") == 0
    assert str(raised.value).endswith(f"; remove {path} and run again")
    read_block(store, 0)


@pytest.mark.parametrize("length", [0, 3, 200, -1])
def test_a_truncated_shard_is_named(path, length):
    file = shard_path(path, 2)
    store = MapStore.open(path)
    store.read(scene_index := store.layout.block(2).start)
    with file.open("r+b") as opened:
        opened.truncate(length % file.stat().st_size)
    with pytest.raises(StoreError, match=re.escape(str(file))):
        MapStore.open(path)
    with pytest.raises(StoreError, match=re.escape(str(file))):
        store.verify()
    copy = MapStore(path, store.layout, store._manifest)
    with pytest.raises(StoreError, match=re.escape(str(file))):
        copy.read(scene_index)


def test_a_shard_cut_while_it_is_open_is_named(path):
    store = MapStore.open(path)
    first, *_, last = (index for index in store.layout.block(0) if store.layout.images[index, 1])
    store.read(first)
    with shard_path(path, 0).open("r+b") as opened:
        opened.truncate(10)
    with pytest.raises(StoreError, match=re.escape(str(shard_path(path, 0)))):
        store.read(last)


def test_missing_files_are_named_one_a_line(path):
    shard_path(path, 0).unlink()
    (path / "images" / "c" / "0" / "0").unlink()
    with pytest.raises(StoreError) as raised:
        MapStore.open(path)
    lines, _, remedy = str(raised.value).rpartition("; ")
    assert remedy == f"remove {path} and run again"
    assert sorted(lines.split("\n")) == sorted(
        [f"{shard_path(path, 0)}: missing", f"{path / 'images' / 'c' / '0' / '0'}: missing"]
    )


def test_a_missing_shard_is_named_by_read(path):
    store = MapStore.open(path)
    shard_path(path, 0).unlink()
    with pytest.raises(StoreError, match=re.escape(f"{shard_path(path, 0)}: this shard is missing")):
        read_block(store, 0)


def test_a_shard_of_another_place_is_noticed(path):
    shard_path(path, 0).write_bytes(shard_path(path, 1).read_bytes())
    with pytest.raises(StoreError, match=re.escape(str(shard_path(path, 0)))):
        MapStore.open(path).verify()


def test_a_manifest_with_another_provenance_is_noticed(path):
    file = path / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["provenance"] = {"made_by": "someone else"}
    file.write_text(json.dumps(manifest, indent=1) + "\n")
    with pytest.raises(StoreError, match=r"manifest\.json: damaged"):
        MapStore.open(path)


def test_a_manifest_with_other_spaces_is_noticed(path):
    file = path / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r", 1))
    with pytest.raises(StoreError, match=r"manifest\.json: damaged"):
        MapStore.open(path)


@pytest.mark.parametrize("position", [50, -10])
def test_a_damaged_shard_is_written_again(path, scene, contents, position):
    before = contents(path)
    (path / "manifest.json").unlink()
    file = shard_path(path, 1)
    with_flipped_bit(file, position % file.stat().st_size, 0)
    with pytest.raises(StoreError, match=r"1 of \d+ blocks are missing or damaged: \[1\]"):
        finalize(path, {"made_by": "a test"})
    writer = MapStoreWriter.open(path)
    assert writer.blocks_missing() == [1]
    writer.write_block(1, scene.of(1))
    finalize(path, {"made_by": "a test"})
    assert contents(path) == before


def test_damaged_tables_stop_a_writer(path):
    with_flipped_bit(path / "images" / "c" / "0" / "0", 9, 0)
    with pytest.raises(StoreError, match="tables can't be read"):
        MapStoreWriter.open(path)


@pytest.mark.parametrize("position", [0, 50, -10])
def test_a_shard_with_a_flipped_bit_counts_as_missing(path, position):
    file = shard_path(path, 1)
    with_flipped_bit(file, position % file.stat().st_size, 0)
    assert MapStoreWriter.open(path).blocks_missing() == [1]


@pytest.mark.parametrize("cut", [slice(1, None), slice(0, 0), slice(0, -1), slice(-100, None)])
def test_a_shard_that_lost_bytes_counts_as_missing(path, cut):
    file = shard_path(path, 1)
    file.write_bytes(file.read_bytes()[cut])
    assert MapStoreWriter.open(path).blocks_missing() == [1]

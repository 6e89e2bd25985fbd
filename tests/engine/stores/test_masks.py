import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from camshaft.engine.errors import StoreError
from camshaft.engine.stores import MaskFolder, voc_palette

VALUES = (0, 8, 10, 12, 13, 15, 17)
LABELS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.sampled_from([*range(7), 255]))


@pytest.fixture
def folder(tmp_path: Path) -> MaskFolder:
    return MaskFolder.create(tmp_path / "masks", voc_palette(), VALUES)


def some_labels(seed: int = 0, size: tuple[int, int] = (23, 31)) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([*range(7), 255], np.uint8), size)


def test_voc_palette_has_vocs_colours():
    palette = voc_palette()
    aeroplane, dog, person, void = palette[1], palette[12], palette[15], palette[255]
    assert palette[0].tolist() == [0, 0, 0]
    assert aeroplane.tolist() == [128, 0, 0]
    assert dog.tolist() == [64, 0, 128]
    assert person.tolist() == [192, 128, 128]
    assert void.tolist() == [224, 224, 192]
    assert len({tuple(colour) for colour in palette.tolist()}) == 256


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(labels=LABELS)
def test_labels_come_back(folder, labels):
    folder.write("a", labels)
    back = folder.read("a")
    assert back.dtype == np.uint8
    assert back.shape == labels.shape
    assert (back == labels).all()


def test_files_are_palette_images_in_file_values(folder):
    labels = np.array([[0, 1, 2, 6, 255]], np.uint8)
    folder.write("a", labels)
    with Image.open(folder.path / "a.png") as image:
        assert image.mode == "P"
        assert np.asarray(image).tolist() == [[0, 8, 10, 17, 255]]
        assert image.convert("RGB").getpixel((1, 0)) == tuple(voc_palette()[8].tolist())


def test_a_complete_folder_knows_its_masks(folder):
    names = ("b", "a", "c", "2007_000001.v1")
    for seed, name in enumerate(names):
        folder.write(name, some_labels(seed))
    with pytest.raises(StoreError, match="not complete"):
        MaskFolder.open(folder.path)
    folder.finalize(names, {"alpha": 24})
    opened = MaskFolder.open(folder.path)
    assert opened.ids == names
    assert opened.file_values == VALUES
    assert opened.provenance == {"alpha": 24}
    assert (opened.palette == voc_palette()).all()
    for seed, name in enumerate(names):
        assert (opened.read(name) == some_labels(seed)).all()
    opened.verify()


def test_the_table_is_sha256sums(folder):
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    for name in ("a", "b c", "d"):
        folder.write(name, some_labels())
    folder.finalize(["a", "b c", "d"], {})
    check = ["sha256sum", "--check", "--strict", "masks.sha256"]
    assert subprocess.run(check, cwd=folder.path, check=False, capture_output=True).returncode == 0


def test_ids_done_counts_only_whole_files(folder):
    for name in ("a", "b", "c", "cut", "empty", "other"):
        folder.write(name, some_labels())
    whole = (folder.path / "cut.png").read_bytes()
    (folder.path / "cut.png").write_bytes(whole[:-1])
    (folder.path / "empty.png").write_bytes(b"")
    (folder.path / "other.png").write_bytes(b"x" * 50)
    (folder.path / ".part-7-d.png").write_bytes(whole)
    assert folder.ids_done() == {"a", "b", "c"}
    with pytest.raises(StoreError, match=r"1 of 2 masks are missing or damaged, the first is 'cut'"):
        folder.finalize(["a", "cut"], {})


@pytest.mark.parametrize("position", [3, 9, 20, 60, 900, -30, -14, -9, -1])
def test_a_mask_with_a_flipped_bit_is_not_done(folder, position):
    for name in ("a", "b"):
        folder.write(name, some_labels())
    file = folder.path / "b.png"
    data = bytearray(file.read_bytes())
    data[position] ^= 4
    file.write_bytes(data)
    assert folder.ids_done() == {"a"}
    with pytest.raises(StoreError, match=r"1 of 2 masks are missing or damaged, the first is 'b'"):
        folder.finalize(["a", "b"], {})


def test_killed_in_the_middle_of_a_write(folder, child):
    program = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from camshaft.engine.stores import MaskFolder, voc_palette
folder = MaskFolder.create(Path(sys.argv[1]), voc_palette(), (0, 8, 10, 12, 13, 15, 17))
folder.write("small", np.zeros((20, 30), np.uint8))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, -1))
folder.write("large", np.random.default_rng(0).integers(0, 7, (200, 300), np.uint8))
"""
    process = child(program, folder.path)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGXFSZ
    assert [file.stat().st_size for file in folder.path.glob(".part-*")] == [2000]
    assert folder.ids_done() == {"small"}
    folder.write("large", some_labels())
    folder.finalize(["small", "large"], {})
    assert not list(folder.path.glob(".part-*"))
    MaskFolder.open(folder.path).verify()


@pytest.mark.parametrize("position", [0, 20, 60, 900, -1])
def test_an_altered_mask_is_named(folder, position):
    for name in ("a", "b"):
        folder.write(name, some_labels())
    folder.finalize(["a", "b"], {})
    opened = MaskFolder.open(folder.path)
    file = folder.path / "b.png"
    data = bytearray(file.read_bytes())
    data[position] ^= 4
    file.write_bytes(data)
    with pytest.raises(StoreError, match=re.escape(str(file))):
        opened.read("b")
    with pytest.raises(StoreError, match=re.escape(str(file))):
        opened.verify()
    assert (opened.read("a") == some_labels()).all()
    file.unlink()
    with pytest.raises(StoreError, match=re.escape(f"{file}: missing; remove {folder.path} and run again")):
        opened.verify()


@pytest.mark.parametrize("name", ["manifest.json", "format.json", "masks.sha256"])
def test_altered_tables_are_named(folder, name):
    folder.write("a", some_labels())
    folder.finalize(["a"], {})
    file = folder.path / name
    data = bytearray(file.read_bytes())
    for position in (0, len(data) // 2, len(data) - 1):
        data[position] ^= 1
        file.write_bytes(data)
        with pytest.raises(StoreError, match=re.escape(str(file))):
            MaskFolder.open(folder.path)
        data[position] ^= 1


def test_a_damaged_mask_of_an_unfinished_folder_is_named(folder):
    folder.write("a", some_labels())
    file = folder.path / "a.png"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(StoreError, match=re.escape(str(file))):
        folder.read("a")
    Image.new("RGB", (3, 4)).save(file)
    with pytest.raises(StoreError, match="not a label image"):
        folder.read("a")
    Image.new("L", (3, 4), 99).save(file)
    with pytest.raises(StoreError, match="value 99"):
        folder.read("a")


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "sub/x", "sub/../../x", "..", "", ".part-x"])
def test_an_id_never_leaves_the_folder(folder, name):
    with pytest.raises(StoreError, match="not an id"):
        folder.write(name, some_labels())
    with pytest.raises(StoreError, match="not an id"):
        folder.read(name)
    assert [path.name for path in folder.path.parent.iterdir()] == ["masks"]
    assert [path.name for path in folder.path.iterdir()] == ["format.json"]


def test_wrong_labels_are_refused(folder):
    with pytest.raises(ValueError, match=r"'a'.*there is 7"):
        folder.write("a", np.array([[0, 7]], np.uint8))
    for wrong in (np.zeros((2, 2), np.int64), np.zeros((1, 2, 2), np.uint8)):
        with pytest.raises(ValueError, match="'a'"):
            folder.write("a", wrong)
    assert folder.ids_done() == set()


def test_only_the_same_palette_and_values_go_on(folder):
    folder.write("a", some_labels())
    assert MaskFolder.create(folder.path, voc_palette(), VALUES).ids_done() == {"a"}
    with pytest.raises(StoreError, match="another palette"):
        MaskFolder.create(folder.path, voc_palette(), VALUES[:-1])
    with pytest.raises(StoreError, match="another palette"):
        MaskFolder.create(folder.path, voc_palette()[::-1].copy(), VALUES)


@pytest.mark.parametrize("values", [(0, 255), (0, 0), (0, -1), (0, 300)])
def test_file_values_must_make_sense(tmp_path, values):
    with pytest.raises(ValueError, match="file values"):
        MaskFolder.create(tmp_path / "masks", voc_palette(), values)
    with pytest.raises(ValueError, match="palette"):
        MaskFolder.create(tmp_path / "masks", voc_palette()[:20], (0, 1))

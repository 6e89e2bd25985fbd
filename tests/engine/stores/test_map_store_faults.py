"""Real faults: processes killed in the middle of a write, writers side by side, a disk that is full."""

import itertools
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camshaft.engine.stores import MapStore, MapStoreWriter, finalize
from camshaft.engine.stores.shard import shard_path

WRITE = """
import sys
from pathlib import Path
import numpy as np
from camshaft.engine.stores import MapStoreWriter

def write(path, maps, mine):
    writer = MapStoreWriter.open(Path(path))
    maps = list(np.load(maps).values())
    for block in writer.blocks_missing():
        if mine(block):
            writer.write_block(block, [maps[index] for index in writer.layout.block(block)])
            print(block, flush=True)
"""

KILLED_BY_KERNEL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it; now the kernel kills in the middle of the write
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
write(sys.argv[1], sys.argv[2], lambda block: True)
"""

SLOW = """
import time
write(sys.argv[1], sys.argv[2], lambda block: time.sleep(0.05) or True)
"""

EVERY_SECOND = "write(sys.argv[1], sys.argv[2], lambda block: block % 2 == int(sys.argv[3]))"

AGAIN_AND_AGAIN = """
import itertools
maps = list(np.load(sys.argv[2]).values())
for _ in itertools.repeat(None, 10):
    writer = MapStoreWriter.open(Path(sys.argv[1]))
    for block in range(writer.layout.block_count):
        writer.write_block(block, [maps[index] for index in writer.layout.block(block)])
"""

CREATE = """
import time
from camshaft.engine.stores import Layout
layout = Layout.load(Path(sys.argv[1]))
print("ready", flush=True)
while not Path(sys.argv[4]).exists():
    time.sleep(0.001)
MapStoreWriter.open_or_create(Path(sys.argv[3]), layout)
"""

FULL = """
import errno, shutil
from camshaft.engine.errors import DiskFullError
from camshaft.engine.stores import Layout, MapStore, finalize

tiny, store, filler = Path("tiny"), Path("tiny/store"), Path("tiny/filler")

def fill(but):
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
        file.truncate(file.tell() - but)

def expect_full(call, *arguments):
    try:
        call(*arguments)
    except DiskFullError as error:
        print(error)
        return
    raise AssertionError("the disk was not full")

maps = list(np.load(sys.argv[2]).values())
layout = Layout.load(Path(sys.argv[1]))
fill(but=8192)
expect_full(MapStoreWriter.create, store, layout)
assert sorted(path.name for path in tiny.iterdir()) == ["filler"]
filler.unlink()
writer = MapStoreWriter.create(store, layout)
of = lambda block: [maps[index] for index in layout.block(block)]
writer.write_block(0, of(0))
fill(but=4096)
expect_full(writer.write_block, 1, of(1))
assert sorted(path.name for path in (store / "values/c").iterdir()) == ["0"]
filler.unlink()
assert writer.blocks_missing() == list(range(1, layout.block_count))
for block in writer.blocks_missing():
    writer.write_block(block, of(block))
fill(but=0)
expect_full(finalize, store, {"made_by": "a test"})
filler.unlink()
finalize(store, {"made_by": "a test"})
MapStore.open(store).verify()
shutil.copytree(store, "copy")
"""


@dataclass(frozen=True)
class Yard:
    """An empty store, what it must hold in the end, and processes that write to it."""

    folder: Path
    scene: Any
    contents: Callable[[Path], dict[str, bytes]]
    child: Callable[..., "subprocess.Popen[str]"]

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def expected(self) -> dict[str, bytes]:
        if not (self.folder / "undisturbed").exists():
            self.scene.write(self.folder / "undisturbed")
        return self.contents(self.folder / "undisturbed")

    def start(self, program: str, *arguments: object, prefix: Sequence[str] = ()) -> "subprocess.Popen[str]":
        return self.child(WRITE + program, self.store, self.folder / "maps.npz", *arguments, prefix=prefix)

    def missing(self) -> list[int]:
        return MapStoreWriter.open(self.store).blocks_missing()

    def shard(self, block: int) -> Path:
        return shard_path(self.store, block)

    def go_on(self) -> None:
        writer = MapStoreWriter.open_or_create(self.store, self.scene.layout)
        for block in writer.blocks_missing():
            writer.write_block(block, self.scene.of(block))
        finalize(self.store, {"made_by": "a test"})


@pytest.fixture
def yard(tmp_path: Path, scene, contents, child) -> Yard:
    np.savez(tmp_path / "maps.npz", *scene.maps)
    MapStoreWriter.create(tmp_path / "store", scene.layout)
    return Yard(tmp_path, scene, contents, child)


def finish(*processes: "subprocess.Popen[str]") -> str:
    """What the processes printed; they must end well."""
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [errors for _, errors in outputs] == [""] * len(processes)
    return "".join(output for output, _ in outputs)


@pytest.mark.parametrize("part", [1, 60])
def test_killed_in_the_middle_of_a_write(yard, part):
    expected = yard.expected()
    limit = max(len(data) for name, data in expected.items() if name.startswith("values/c/")) * part // 100
    process = yard.start(KILLED_BY_KERNEL, limit)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGXFSZ
    assert [file.stat().st_size for file in yard.shard(0).parent.glob(".part-*")] == [limit]
    blocks = range(yard.scene.layout.block_count)
    assert yard.missing() == [block for block in blocks if not yard.shard(block).exists()] != []
    yard.go_on()
    assert yard.contents(yard.store) == expected


def test_killed_between_blocks_goes_on_after_them(yard):
    process = yard.start(SLOW)
    done = [int(line) for line in itertools.islice(process.stdout, 2)]
    process.kill()
    process.communicate(timeout=60)
    assert not set(done) & set(yard.missing())
    written = {block: yard.shard(block).stat().st_mtime_ns for block in done}
    yard.go_on()
    assert yard.contents(yard.store) == yard.expected()
    assert {block: yard.shard(block).stat().st_mtime_ns for block in done} == written


@pytest.mark.parametrize("program", [EVERY_SECOND, AGAIN_AND_AGAIN], ids=["their own", "the same"])
def test_two_writers_make_the_same_bytes_as_one(yard, program):
    finish(*(yard.start(program, rank) for rank in range(2)))
    finalize(yard.store, {"made_by": "a test"})
    assert yard.contents(yard.store) == yard.expected()


def test_many_ranks_may_create_at_once(yard):
    processes = [yard.start(CREATE, yard.folder / "new", yard.folder / "go") for _ in range(3)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
    (yard.folder / "go").touch()
    finish(*processes)
    assert yard.contents(yard.folder / "new") == yard.contents(yard.store)
    assert not list(yard.folder.glob(".part-*"))


def test_a_full_disk_loses_nothing(yard):
    (yard.folder / "tiny").mkdir()
    mount = 'cd "$0" && mount -t tmpfs -o size=128k none tiny && exec "$@"'
    prefix = ["unshare", "-rm", "sh", "-c", mount, str(yard.folder)]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("no small file system can be mounted here")
    assert finish(yard.start(FULL, prefix=prefix)).count("no space left") == 3
    assert yard.contents(yard.folder / "copy") == yard.expected()


def test_a_complete_store_may_be_finalized_again(yard):
    yard.go_on()
    yard.go_on()
    assert yard.contents(yard.store) == yard.expected()
    MapStore.open(yard.store).verify()

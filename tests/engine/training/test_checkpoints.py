"""Checkpoints meet real faults: a kill, a truncated or altered file, a full disk, a hostile pickle."""

import hashlib
import json
import logging
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from camshaft.engine.errors import DiskFullError, Stopped, StoreError
from camshaft.engine.runtime.stop import StopFlag
from camshaft.engine.training import remove_checkpoints
from camshaft.engine.training.checkpoints import read_manifest

EVERY_4 = {"checkpoint_every": {"steps": 4}}
STATE = "state.safetensors"


def stop_at(run, step, settings=EVERY_4):
    """Train until after `step` steps, and save there."""
    stop = StopFlag()
    with pytest.raises(Stopped):
        run(settings, stop=stop, each_step=lambda done: stop.set("test") if done == step - 1 else None)


def names(run):
    return sorted(path.name for path in run.checkpoints.iterdir())


@pytest.fixture
def one_thread():
    """As many threads as the worker has: sums over another number of them differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_killed_training_ends_with_the_same_weights(run, another_run):
    another_run()
    victim_step = random.SystemRandom().randrange(5, 17)
    worker = [sys.executable, str(Path(__file__).with_name("worker.py")), str(run.folder), "killed"]
    process = subprocess.Popen(worker, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stdout is not None
    for line in process.stdout:
        if line == f"step {victim_step}\n":
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    run.folder = run.folder / "killed"
    run.checkpoints = run.folder / "checkpoints"
    result = run(EVERY_4)
    assert result.resumed_at >= (victim_step - 1) // 4 * 4, f"killed at step {victim_step}"
    assert run.losses() == another_run.losses(), f"killed at step {victim_step}"
    for name, value in another_run.weights().items():
        assert torch.equal(run.weights()[name], value), f"{name}, killed at step {victim_step}"


def test_the_newest_are_kept(run):
    run({**EVERY_4, "keep_checkpoints": 2})
    assert names(run) == ["step-00000012", "step-00000016"]
    remove_checkpoints(run.checkpoints)
    remove_checkpoints(run.checkpoints)
    assert not run.checkpoints.exists()


def damage_truncate(path):
    os.truncate(path / STATE, (path / STATE).stat().st_size // 2)


def damage_flip_a_bit(path):
    data = bytearray((path / STATE).read_bytes())
    data[len(data) // 2] ^= 1
    (path / STATE).write_bytes(data)


def damage_remove_the_manifest(path):
    (path / "manifest.json").unlink()


def damage_cut_the_manifest(path):
    os.truncate(path / "manifest.json", 100)


def damage_remove_a_file(path):
    (path / STATE).unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_truncate, r"state.safetensors: \d+ bytes, but \d+ were written"),
        (damage_flip_a_bit, "state.safetensors: altered since it was written"),
        (damage_remove_the_manifest, "step-00000010: manifest.json is missing"),
        (damage_cut_the_manifest, "manifest.json: not a manifest"),
        (damage_remove_a_file, "its files are not those of its manifest"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_passed_over(run, another_run, caplog, damage, said):
    another_run()
    stop_at(run, 10)
    assert names(run) == ["step-00000008", "step-00000010"]
    damage(run.checkpoints / "step-00000010")
    with caplog.at_level(logging.WARNING, "camshaft.training"):
        result = run(EVERY_4)
    assert result.resumed_at == 8
    (warning,) = caplog.messages
    assert re.search(said, warning)
    assert warning.endswith("this checkpoint is passed over")
    for name, value in another_run.weights().items():
        assert torch.equal(run.weights()[name], value)


def test_a_checkpoint_of_another_training_is_not_used(run, caplog):
    stop_at(run, 6)
    with caplog.at_level(logging.WARNING, "camshaft.training"):
        result = run({"optimizer": {"kind": "sgd", "lr": 0.01}})
    assert result.resumed_at == 0
    assert "from another training (settings differ)" in caplog.text


@pytest.mark.parametrize("keep", [1, 2])
def test_checkpoints_of_another_training_give_way_to_those_of_this_one(run, keep):
    stop_at(run, 10)
    other = {"optimizer": {"kind": "sgd", "lr": 0.01}, "checkpoint_every": {"steps": 2}, "keep_checkpoints": keep}
    stop_at(run, 5, other)
    assert names(run) == ["step-00000004", "step-00000005"][-keep:]
    assert run(other).resumed_at == 5


def test_checkpoints_of_another_training_stay_until_there_is_one_of_this(run):
    stop_at(run, 10)
    run({"optimizer": {"kind": "sgd", "lr": 0.01}, "epochs": 1})
    assert run(EVERY_4).resumed_at == 10


def test_a_damaged_checkpoint_does_not_count_as_one_that_is_kept(run):
    stop_at(run, 11)
    damage_truncate(run.checkpoints / "step-00000011")
    stop_at(run, 10)
    assert names(run) == ["step-00000008", "step-00000010"]
    assert run(EVERY_4).resumed_at == 10


def test_no_code_in_a_checkpoint_is_run_even_if_its_manifest_is_right(run, tmp_path):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    stop_at(run, 6)
    path = run.checkpoints / "step-00000006"
    torch.save({"hostile": Hostile()}, path / STATE)
    manifest = json.loads((path / "manifest.json").read_text())
    data = (path / STATE).read_bytes()
    manifest["files"][STATE] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=f"{path}: can't be used, though it is what was written"):
        run()
    assert not (tmp_path / "executed").exists()


@pytest.fixture
def small_files():
    """No file may become larger than so many bytes; a write beyond fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [0, 500, 2500])
def test_a_write_that_fails_leaves_the_checkpoint_before_it(run, small_files, size):
    stop_at(run, 4)
    before = (run.checkpoints / "step-00000004" / STATE).read_bytes()
    assert len(before) > size
    with pytest.raises((StoreError, DiskFullError), match="step-00000008"):
        # Without lines of metrics, the checkpoint is the next thing to be written.
        run({**EVERY_4, "log_every": 100}, each_step=lambda step: small_files(size) if step == 7 else None)
    small_files(resource.RLIM_INFINITY)
    assert names(run) == ["step-00000004"]
    assert (run.checkpoints / "step-00000004" / STATE).read_bytes() == before
    read_manifest(run.checkpoints / "step-00000004")
    assert run(EVERY_4).resumed_at == 4


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB, where the machine lets us mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_the_checkpoint_before_it_is_whole(run, small_disk):
    run.checkpoints = small_disk / "checkpoints"
    stop_at(run, 4)

    def fill(step):
        if step == 7:
            with (small_disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
                while True:
                    ballast.write(b"x" * 1024)

    with pytest.raises(DiskFullError, match="step-00000008: no space left on the disk; free some"):
        run(EVERY_4, each_step=fill)
    assert names(run) == ["step-00000004"]
    (small_disk / "ballast").unlink()
    assert run(EVERY_4).resumed_at == 4

"""The commands of docs/cluster.md that start several ranks, run as they stand there, on one machine without a GPU."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^ {4}((?:torchrun|deepspeed) .*?)(?:\s{2,}#.*)?$", PAGE, re.MULTILINE)
SLURM = re.findall(r"^```bash\n(#!/bin/bash\n#SBATCH(?:.|\n)*?)```$", PAGE, re.MULTILINE)
HOSTS = re.findall(r"^```hosts\n((?:.|\n)*?)```$", PAGE, re.MULTILINE)


def command(kind: str) -> str:
    (found,) = (text for text in SHOWN if re.search(kind, text))
    return str(found)


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture
def launch(
    tiny: dict[str, Any], write_recipe: Callable[[Mapping[str, Any]], Path], tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Start the commands at once; the record of the one stage that they run."""
    (stage,) = (stage for stage in tiny["stages"] if stage["id"] == "ordinary")
    del stage["epochs"]
    tiny |= {"data": {**tiny["data"], "train": 4, "val": 2}, "stages": [{**stage, "iterations": 1, "batch_size": 4}]}
    recipe = write_recipe(tiny)

    def start(*texts: str, **changes: str) -> dict[str, Any]:
        processes = []
        for text in texts:
            for old, new in {"recipes/coco_drs.yaml": str(recipe), **changes}.items():
                assert old in text, text
                text = text.replace(old, new)  # noqa: PLW2901
            launcher, *rest = shlex.split(text)
            processes.append(
                subprocess.Popen(
                    [str(Path(sys.executable).with_name(launcher)), *rest],
                    cwd=tmp_path,
                    env={**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    start_new_session=True,
                )
            )
        try:
            said = [process.communicate(timeout=300)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)
        (record,) = (tmp_path / "runs/tiny/stages").glob("ordinary-*/stage.json")
        values: dict[str, Any] = json.loads(record.read_text())
        return values

    return start


@pytest.mark.two_ranks
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("torchrun --nproc-per-node", {"--nproc-per-node 8": "--nproc-per-node 2 --master-port PORT"}),
        ("deepspeed --num_gpus", {"--num_gpus 8": "--num_gpus 2 --master_port PORT"}),
    ],
)
def test_on_one_machine(launch: Callable[..., dict[str, Any]], kind: str, changes: dict[str, str]) -> None:
    port = free_port()
    assert launch(command(kind), **{old: new.replace("PORT", port) for old, new in changes.items()})["ranks"] == 2


@pytest.mark.two_ranks
@pytest.mark.slow
def test_on_two_machines_without_ssh(launch: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Both machines are this one; the hosts are those of the page, with a slot each."""
    (hosts,) = HOSTS
    (tmp_path / "hosts").write_text(re.sub(r"slots=\d+", "slots=1", hosts))
    text = command("--no_ssh")
    changes = {"--master_addr node1": f"--master_addr 127.0.0.1 --master_port {free_port()}"}
    assert launch(text, text.replace("--node_rank 0", "--node_rank 1"), **changes)["ranks"] == 2


def test_the_hosts_are_a_file_that_deepspeed_reads(tmp_path: Path) -> None:
    (hosts,) = HOSTS
    (tmp_path / "hosts").write_text(hosts)
    program = "import sys, deepspeed.launcher.runner as d; print(dict(d.fetch_hostfile(sys.argv[1])))"
    reads = [sys.executable, "-c", program, str(tmp_path / "hosts")]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(reads, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "{'node1': 8, 'node2': 8}"


def test_the_slurm_script_gives_each_task_its_rank(tmp_path: Path) -> None:
    """Its `srun` is one here that starts two tasks one after the other, and `camshaft` says what it was given."""
    (script,) = SLURM
    names = "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"
    programs = {
        "srun": 'for i in 8 9; do SLURM_PROCID=$i SLURM_LOCALID=$((i - 8)) SLURM_NTASKS=16 "$@"; done',
        "scontrol": "echo node1; echo node2",
        "camshaft": f'echo {" ".join(f"${name}" for name in names)} "$@"',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {"PATH": path, "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NTASKS_PER_NODE": "8"}
    task = ["bash", "-eu", "-c", script]
    done = subprocess.run(task, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{8 + i} {i} 16 8 node1 29500 run recipes/coco_drs.yaml" for i in range(2)]

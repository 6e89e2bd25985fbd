"""Bad data and a full disk, met by a whole run: said in one message, nothing lost, nothing half-done taken for done."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Start = Callable[..., subprocess.Popen[str]]
Write = Callable[[Mapping[str, Any]], Path]

CLASSIFY = {
    "id": "ordinary",
    "kind": "classify",
    "backbone": {"name": "efficientnet_lite0"},
    "iterations": 1,
    "batch_size": 2,
    "augmentation": {"resize": {"square": 64}},
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A user's own folder: six photos with tags, the last without any."""
    root = tmp_path / "own"
    (root / "images").mkdir(parents=True)
    rows = ["id,cat,dog"]
    for number in range(6):
        image = Image.effect_noise((80, 60), 40 + number).convert("RGB")
        image.save(root / "images" / f"p{number}.jpg", quality=95)
        rows.append(f"p{number},{int(number in (0, 1, 2))},{int(number in (2, 3, 4))}")
    (root / "tags.csv").write_text("\n".join(rows) + "\n")
    return root


def recipe_of(root: Path, **data: Any) -> dict[str, Any]:
    settings = {"kind": "folder", "root": str(root), "val_fraction": 0, **data}
    return {"name": "own", "data": settings, "stages": [CLASSIFY]}


def failed(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 1, text
    assert "Traceback" not in text
    return text


def test_bad_files_are_all_named_before_anything_runs(
    photos: Path, write_recipe: Write, camshaft: Start, tmp_path: Path
) -> None:
    for name in ("p1.jpg", "p3.jpg"):
        path = photos / "images" / name
        path.write_bytes(path.read_bytes()[:-900])
    recipe = write_recipe(recipe_of(photos))
    text = failed(camshaft("run", recipe, "--out", tmp_path / "run"))
    assert "own: 2 problems with the data:" in text
    assert str(photos / "images/p1.jpg") in text
    assert str(photos / "images/p3.jpg") in text
    assert not list((tmp_path / "run/stages").glob("ordinary-*"))


def test_a_corrupt_image_may_be_skipped_and_is_listed(
    photos: Path, write_recipe: Write, camshaft: Start, tmp_path: Path
) -> None:
    path = photos / "images/p1.jpg"
    path.write_bytes(path.read_bytes()[:-900])
    process = camshaft("run", write_recipe(recipe_of(photos, on_corrupt="skip")), "--out", tmp_path / "run")
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    assert "5 images in train (1 skipped, 1 without tags)" in text
    (record,) = (json.loads(found.read_text()) for found in (tmp_path / "run/stages").glob("data-*/stage.json"))
    (skipped,) = record["figures"]["train"]["skipped"]
    assert skipped["id"] == "p1"
    assert str(path) in skipped["reason"]
    assert record["figures"]["train"]["untagged"] == ["p5"]
    (record,) = (json.loads(found.read_text()) for found in (tmp_path / "run/stages").glob("ordinary-*/stage.json"))
    assert record["figures"]["images"] == 5


@pytest.fixture(scope="module")
def five_hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many photos, all of one class."""
    root = tmp_path_factory.mktemp("many")
    (root / "images").mkdir()
    image = Image.effect_noise((40, 30), 50).convert("RGB")
    for number in range(500):
        image.save(root / f"images/p{number:03}.jpg")
    (root / "tags.csv").write_text("id,cat\n" + "".join(f"p{number:03},1\n" for number in range(500)))
    return root


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[: len(data) // 2], lambda data: data[:-2], lambda data: bytes(len(data)), lambda data: data[:0]],
    ids=["half", "no end", "zeros", "empty"],
)
def test_one_corrupt_jpeg_among_500(
    five_hundred: Path, write_recipe: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    damage: Callable[[bytes], bytes],
) -> None:  # fmt: skip
    from camshaft.engine.cli.main import main
    from camshaft.engine.data import inspect, open_data
    from camshaft.engine.data.folder import FolderSettings

    path = five_hundred / "images/p347.jpg"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    try:
        assert main(["run", str(write_recipe(recipe_of(five_hundred))), "--out", str(tmp_path / "run")]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"camshaft: {path}: ")
        settings = FolderSettings(kind="folder", root=five_hundred, val_fraction=0, on_corrupt="skip")
        found = inspect(open_data(settings, tmp_path), ["train"], on_corrupt="skip").splits["train"]
    finally:
        path.write_bytes(whole)
    assert [one.image_id for one in found.skipped] == ["p347"]
    assert found.ids == tuple(f"p{number:03}" for number in range(500) if number != 347)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "images/p4.jpg").unlink(), "tags.csv, line 6: "),
        (lambda root: (root / "tags.csv").write_text("id,cat,dog\n../p0,1,0\n"), "'../p0'"),
        (lambda root: (root / "tags.csv").write_text("id,cat,dog\np0,2,0\n"), "tags.csv, line 2"),
    ],
)
def test_tags_that_do_not_fit_the_images(
    photos: Path, write_recipe: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    spoil: Callable[[Path], object], message: str,
) -> None:  # fmt: skip
    from camshaft.engine.cli.main import main

    spoil(photos)
    assert main(["run", str(write_recipe(recipe_of(photos))), "--out", str(tmp_path / "run")]) == 1
    assert message in capsys.readouterr().err


def test_evaluation_without_masks_is_refused_at_once(
    photos: Path, write_recipe: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from camshaft.engine.cli.main import main

    recipe = recipe_of(photos, val_fraction=0.3)
    recipe["stages"] = [
        CLASSIFY,
        {"id": "maps", "kind": "maps", "network": "ordinary", "splits": ["val"]},
        {"id": "scores", "kind": "evaluate", "of": ["maps"]},
    ]
    assert main(["run", str(write_recipe(recipe)), "--out", str(tmp_path / "run")]) == 1
    assert "stages.scores: evaluates on val, but own has no masks for it" in capsys.readouterr().err


def test_two_runs_do_not_share_a_folder(
    photos: Path, write_recipe: Write, camshaft: Start, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from camshaft.engine.cli.main import main
    from camshaft.engine.pipeline.lock import locked

    with locked(tmp_path / "run"):
        assert main(["run", str(write_recipe(recipe_of(photos))), "--out", str(tmp_path / "run")]) == 1
    assert "another run is at work in this folder (process " in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_run_is_kept_in_a_folder(
    photos: Path, write_recipe: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path, out: str, more: list[str]
) -> None:
    from camshaft.engine.cli.main import main

    (tmp_path / "file").write_text("no folder")
    assert main(["run", str(write_recipe(recipe_of(photos))), "--out", str(tmp_path / out), *more]) == 1
    expected = f"{tmp_path / out}: no run can be kept here: {tmp_path / 'file'} is a file; name a folder with --out"
    assert expected in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_full_disk_stops_the_run_and_loses_nothing(photos: Path, write_recipe: Write, tmp_path: Path) -> None:
    """On a file system of 9 MB the network of 14 MB does not fit; on a larger one the same command goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    run = f"{sys.executable} -m camshaft.engine.cli run {write_recipe(recipe_of(photos))} --out {disk}/run"
    script = (
        f"mount -t tmpfs -o size=9m none {disk} && {run}; echo first $?; mount -o remount,size=200m {disk} && {run}"
    )
    command = ["unshare", "-rm", "sh", "-c", script]
    if shutil.which("unshare") is None or subprocess.run([*command[:3], "-c", "true"], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    text = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)
    assert "no space left on the disk; free some and run the same command again" in text.stderr
    assert "Traceback" not in text.stderr
    assert "first 1" in text.stdout
    assert "ordinary: goes on" in text.stdout
    assert "ordinary: done" in text.stdout
    assert text.returncode == 0, text.stderr

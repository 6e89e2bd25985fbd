"""Every command that the documentation shows is one that works: runs are dry, all else is done for real."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from camshaft.engine.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = re.compile(r"^(?: {4}|\$ )(camshaft|make) (.*?)(?:\s{2,}#.*|\s*)$", re.MULTILINE)
COMMANDS = sorted({(tool, text) for page in PAGES for tool, text in SHOWN.findall(page.read_text(encoding="utf-8"))})


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    """The README's own images and tags, and eight more like them."""
    (tmp_path / "mydata/images").mkdir(parents=True)
    names = [f"holiday_{number:02}" for number in range(1, 11)]
    for name in names:
        Image.effect_noise((80, 60), 50).convert("RGB").save(tmp_path / f"mydata/images/{name}.jpg")
    table = re.search(r"^ {4}id,cat,dog\n(?: {4}\w+,\d,\d\n)+", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert table is not None
    rest = "".join(f"{name},1,0\n" for name in names[2:])
    (tmp_path / "mydata/tags.csv").write_text(table.group().replace("    ", "") + rest)
    return tmp_path / "mydata"


def test_commands_are_found() -> None:
    assert {tool for tool, _ in COMMANDS} == {"camshaft", "make"}
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("text", [text for tool, text in COMMANDS if tool == "make"])
def test_make_has_the_target(text: str) -> None:
    command = ["make", "--dry-run", *shlex.split(text.replace("DIR", "."))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", [text for tool, text in COMMANDS if tool == "camshaft"])
def test_the_command_line_takes_it(
    text: str, own_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(text.partition(" > ")[0].replace("/path/to/mydata", str(own_data)))
    on_photos = arguments[0] == "sweep" or (arguments[0] == "run" and "voc6" in arguments[1])
    if on_photos and not (ROOT.parent / "shared/data/voc6").is_dir():
        pytest.skip("the photos of this recipe are not here")
    if on_photos:
        arguments.append(f"data.root={ROOT.parent}/shared/data/voc6")
    if arguments[0] in ("run", "sweep") and "--dry-run" not in arguments:
        arguments.append("--dry-run")
    code = main(arguments)
    printed = capsys.readouterr()
    if arguments[0] == "report":
        assert "runs/demo/run.json: No such file or directory: runs/demo holds no complete run" in printed.err
    elif arguments[:2] == ["weights", "convert"]:
        assert f"{arguments[2]}: no such weights file" in printed.err
    elif arguments[:2] == ["figure", "variants"]:
        assert "runs/drs_controller: holds no sweep that has come to its end" in printed.err
    elif arguments[0] == "figure":
        assert f"{arguments[2]}/run.json: is missing: the run in this folder has not come to its end" in printed.err
    else:
        assert code == 0, printed.err

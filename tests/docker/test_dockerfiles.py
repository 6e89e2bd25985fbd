"""What can be said of the images without docker: that their files, extras, make targets and commands exist."""

import fnmatch
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from camshaft.engine.cli.main import parser

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "docker").glob("Dockerfile.*"))
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
PAGE = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def copied(path: Path) -> list[str]:
    sources = []
    for name, rest in instructions(path):
        if name == "COPY":
            sources += [word for word in rest.split()[:-1] if not word.startswith("--")]
    return sources


@pytest.fixture(params=FILES, ids=lambda path: path.suffix[1:])
def dockerfile(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_there_are_both() -> None:
    assert [path.suffix for path in FILES] == [".cpu", ".gpu"]


def test_what_is_copied_exists_and_travels(dockerfile: Path) -> None:
    for source in copied(dockerfile):
        assert (ROOT / source).exists(), source
        assert not any(fnmatch.fnmatch(source, pattern.removeprefix("**/")) for pattern in IGNORED), source


def test_all_that_is_installed_travels(dockerfile: Path) -> None:
    links = [path for path in (ROOT / ".src/camshaft").iterdir() if path.is_symlink()]
    rooms = {link.resolve().relative_to(ROOT).as_posix() for link in links}
    assert rooms | {".src", "setup.py", "README.md", "LICENSE", "constraints.txt"} <= set(copied(dockerfile))


def test_it_ends_as_an_ordinary_user_with_a_command_that_parses(dockerfile: Path) -> None:
    steps = instructions(dockerfile)
    # As a number, so that an orchestrator can see that it is not root.
    assert [rest for name, rest in steps if name == "USER"][-1] == "1000"
    assert "useradd --create-home --uid 1000 camshaft" in " ".join(rest for name, rest in steps if name == "RUN")
    last = dict(steps)
    assert json.loads(last["ENTRYPOINT"]) == ["camshaft"]
    assert callable(parser().parse_args(json.loads(last["CMD"])).command)


def test_its_extras_and_requirements_are_those_of_setup(dockerfile: Path) -> None:
    setup = (ROOT / "setup.py").read_text()
    text = " ".join(rest for name, rest in instructions(dockerfile) if name == "RUN")
    for extras in re.findall(r"'\.\[(.*?)\]'", text):
        for extra in extras.split(","):
            assert f'"{extra}": [' in setup
    for requirement in re.findall(r"'(nvidia-[^']*)'", text):
        assert f'"{requirement}"' in setup


def test_make_knows_the_target_that_sets_up() -> None:
    (target,) = re.findall(r"make \"\$VENV(/\S+)\"", (ROOT / "docker/Dockerfile.cpu").read_text())
    command = ["make", "--dry-run", "--always-make", "VENV=/opt/camshaft", f"/opt/camshaft{target}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--editable '.[weights]'" in done.stdout


def test_the_commands_shown_name_files_that_are_here_and_parse() -> None:
    shown = [shlex.split(text) for text in re.findall(r"^ {4}(docker .*)$", PAGE, re.MULTILINE)]
    built = {words[words.index("-t") + 1]: words[words.index("-f") + 1] for words in shown if words[1] == "build"}
    assert {ROOT / path for path in built.values()} == set(FILES)
    run = [words for words in shown if words[1] == "run"]
    assert len(run) == 2
    for words in run:
        (image,) = (word for word in words if word in built)
        arguments = words[words.index(image) + 1 :]
        assert callable(parser().parse_args(arguments).command)

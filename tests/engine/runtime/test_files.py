"""Files that can't be written: one line that names them."""

from pathlib import Path

import pytest

from camshaft.engine.errors import CamshaftError
from camshaft.engine.runtime.files import replacing, replacing_folder, write_bytes


def test_a_file_below_a_file_or_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder/inner").mkdir(parents=True)
    with pytest.raises(CamshaftError, match=r"file/x\.png: can't be written: .*/file: File exists"):
        write_bytes(tmp_path / "file/x.png", b"x")
    with pytest.raises(CamshaftError, match="folder: can't be written: Is a directory"):
        write_bytes(tmp_path / "folder", b"x")
    with pytest.raises(CamshaftError, match=r"\.: is a folder; a file is needed"):
        write_bytes(Path(), b"x")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "inner"]


def test_a_file_system_without_folders_of_one_s_own() -> None:
    with pytest.raises(CamshaftError, match=r"/proc/nowhere/x\.png: can't be written: "):
        write_bytes(Path("/proc/nowhere/x.png"), b"x")


def test_errors_about_other_files_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "x"):
        (tmp_path / "other").read_bytes()


def test_a_folder_is_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with replacing_folder(tmp_path / "new") as folder:
        (folder / "file").touch()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert [file.name for file in sorted(tmp_path.rglob("*"))] == ["new", "file", "other"]

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camshaft.engine.errors import DataError, StoreError
from camshaft.engine.stores.names import check_id, file_of


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_accepted_id_leaves_its_folder(image_id: str) -> None:
    folder = Path("/data/JPEGImages")
    try:
        path = file_of(folder, image_id, ".jpg")
    except StoreError:
        return
    assert path.parent == folder
    assert path.resolve().parent == folder.resolve()


def test_an_id_is_refused_as_its_reader_wants() -> None:
    with pytest.raises(DataError, match=r"^tags\.csv, line 3: 'a/b' is not an id"):
        check_id("a/b", "tags.csv, line 3", DataError)
    with pytest.raises(StoreError, match=r"^'a/b' is not an id"):
        check_id("a/b")
    with pytest.raises(StoreError, match="is longer than 200 bytes"):
        check_id("ä" * 101)
    check_id("ä" * 100)

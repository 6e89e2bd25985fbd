import pytest

from camshaft.engine.report import wording


@pytest.mark.parametrize(
    ("count", "words"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (1000, "0.977 KiB"), (1_610_612_736, "1.5 GiB"), (2**50, "1.02e+03 TiB")],
)
def test_sizes(count, words):
    assert wording.size(count) == words


def test_percentages_and_numbers():
    assert wording.percent(0.43149) == "43.1"
    assert wording.percent(None) == "–"
    assert [wording.number(value) for value in (0.3, 0.25, 1e-5, 1234.0, None)] == [
        "0.3",
        "0.25",
        "1e-05",
        "1,234",
        "–",
    ]


def test_lists():
    assert wording.listed([]) == "–"
    assert wording.listed(["a"]) == "a"
    assert wording.listed(["a", "b", "c"]) == "a, b and c"

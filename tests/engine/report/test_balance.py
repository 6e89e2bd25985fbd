"""What a guide says as a mask shrinks and grows, by hand."""

import math
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from camshaft.engine.data.batch import Batch
from camshaft.engine.objectives import ErasingObjective, ErasingSettings, Moment
from camshaft.engine.report.balance import SHIFTS, SHOWN, Balance, read, shifted, unrectified
from camshaft.engine.report.chart_file import save_chart
from camshaft.engine.report.charts import Series, line_chart
from camshaft.engine.report.figures import Figure

SVG = "{http://www.w3.org/2000/svg}"
TAGS = torch.tensor([1.0, 1.0, 0.0])


class Channels(nn.Module):
    """The map of class c is four times the image's channel c, less one."""

    def forward(self, image: Tensor) -> Tensor:
        return 4 * image - 1


def image() -> Tensor:
    """The first class in the first two of four pixels, more in the first; the second class in the last two."""
    return torch.tensor([[[[1.0, 0.5, 0.0, 0.0]], [[0.0, 0.0, 0.6, 1.0]], [[0.0] * 4]]])


def full() -> Tensor:
    return unrectified(Channels(), image(), 0, False)


def readings(shifts: tuple[float, ...] = SHIFTS) -> dict[float, tuple[float, tuple[float, ...], float]]:
    found = read(Channels(), image(), full(), TAGS, 0, shifts)
    return {one.shift: (one.erased, one.scores, one.loss) for one in found}


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_masks_grow_with_the_shift_from_nothing_to_all_that_the_map_leaves_open() -> None:
    # The map is 3, 1, -1, -1, over its maximum.
    assert full().flatten().tolist() == pytest.approx([1, 1 / 3, -1 / 3, -1 / 3], abs=1e-5)
    assert not shifted(full(), -1.0).any()
    assert shifted(full(), 0.0).flatten().tolist() == pytest.approx([1, 1 / 3, 0, 0], abs=1e-5)
    assert shifted(full(), 0.5).flatten().tolist() == pytest.approx([1, 5 / 6, 1 / 6, 1 / 6], abs=1e-5)
    assert shifted(full(), 1.0).flatten().tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3], abs=1e-5)


def test_scores_and_loss_by_hand() -> None:
    erased, scores, loss = readings((0.0,))[0.0]
    assert erased == pytest.approx(1 / 3, abs=1e-5)
    # Means of the channels times four, less one: what is left of the first class is 0.5 · 2/3 in one pixel of four.
    expected = [sigmoid(0.5 * 2 / 3 - 1), sigmoid(1.6 - 1), sigmoid(-1)]
    assert scores == pytest.approx(expected, abs=1e-5)
    terms = [-math.log(1 - expected[0]), -math.log(expected[1]), -math.log(1 - expected[2])]
    assert loss == pytest.approx(sum(terms) / 3, abs=1e-5)


def test_a_small_mask_shows_the_target_and_a_large_one_hides_the_others() -> None:
    found = readings()
    assert found[-1.0][1][0] > found[0.0][1][0] > found[1.0][1][0]
    assert found[-1.0][1][1] == found[0.0][1][1] > found[1.0][1][1]
    best = min(found, key=lambda shift: found[shift][2])
    assert -1 < best < 1, "neither nothing nor everything is best"
    assert [erased for erased, _, _ in found.values()] == sorted(erased for erased, _, _ in found.values())


def test_no_shift_is_the_erasing_term_of_training() -> None:
    only = torch.tensor([[1.0, 0.0, 0.0]])  # one class, so that it is drawn
    (reading,) = read(Channels(), image(), full(), only[0], 0, (0.0,))
    objective = ErasingObjective(ErasingSettings(implementation="torch"), Channels())
    _, figures = objective(Channels(), Batch(image(), only, torch.tensor([0])), Moment(0, 0, (0,), (0,)))
    assert reading.loss == pytest.approx(float(figures["erasing"]), abs=1e-6)


def test_files_of_a_reading(tmp_path) -> None:  # type: ignore[no-untyped-def]
    found = read(Channels(), image(), full(), TAGS, 0, SHIFTS)
    assert set(SHOWN) < set(SHIFTS)
    figure = Figure(Image.new("RGB", (4, 4)), "words")
    balance = Balance(("sofa", "dog & cat", "cow"), 0, (1,), found, figure)
    picture, table, drawing = balance.save(tmp_path / "figures" / "balance.png")
    assert sorted(path.name for path in picture.parent.iterdir()) == ["balance.csv", "balance.png", "balance.svg"]
    lines = table.read_text().splitlines()
    assert lines[0] == "shift,erased,loss,sofa,dog & cat,cow"
    assert len(lines) == 1 + len(SHIFTS)
    own = lines[1 + SHIFTS.index(0.0)].split(",")
    assert [float(value) for value in own] == pytest.approx(
        [0, 1 / 3, *(readings()[0.0][2:]), *readings()[0.0][1]], abs=1e-4
    )
    root = ElementTree.parse(drawing).getroot()
    texts = {element.text for element in root.iter(f"{SVG}text")}
    assert {"loss", "sofa (erased)", "dog & cat (remains)", "the mask as it is"} <= texts
    assert "cow (remains)" not in texts
    assert len(list(root.iter(f"{SVG}polyline"))) == 3


def test_a_chart_s_names_do_not_overlap_and_are_escaped(tmp_path) -> None:  # type: ignore[no-untyped-def]
    series = [Series(name, (0, 1), (0, 1)) for name in ("a < b", "a longer name", "c")]
    chart = line_chart("y", "x", series, width=400, height=200, from_zero=True)
    save_chart(chart, tmp_path / "chart.svg")
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    names = [e for e in root.iter(f"{SVG}text") if e.text in {one.name for one in series}]
    starts = [float(element.attrib["x"]) for element in names]
    assert all(
        later - start > 6 * len(e.text or "") for start, later, e in zip(starts, starts[1:], names, strict=False)
    )
    assert {element.text for element in names} == {"a < b", "a longer name", "c"}

import errno
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from camshaft.engine.errors import DiskFullError, StoreError
from camshaft.engine.report import gallery, templates, write_report


@pytest.fixture(scope="module")
def report(whole_run, scenes):
    return write_report(whole_run, scenes, gallery_images=3)


@pytest.fixture
def html(report, parsed):
    return parsed(report)


def test_the_page_is_where_it_says_and_nothing_is_left_over(report, whole_run):
    assert report == whole_run / "report/index.html"
    assert sorted(path.name for path in whole_run.iterdir()) == ["report", "run.json", "stages"]


def test_every_picture_is_in_the_folder_with_its_size_and_an_alternative_text(html):
    pictures = [image for image in html.all("img") if "dialog" not in image.within]
    assert len(pictures) == 3 * (2 + 6)
    for picture in pictures:
        with Image.open(html.folder / picture.attributes["src"]) as image:
            assert image.size == (int(picture.attributes["width"]), int(picture.attributes["height"]))
        assert re.fullmatch(r".+ of val-\d{6}: .+", picture.attributes["alt"])
    files = {path.relative_to(html.folder).as_posix() for path in html.folder.rglob("*") if path.is_file()}
    assert files == {"index.html", *(picture.attributes["src"] for picture in pictures)}


def test_nothing_outside_the_folder_is_asked_for(html):
    for element in html.elements:
        for name in ("src", "href"):
            target = element.attributes.get(name, "#")
            assert target.startswith(("#", "images/", "data:,")), target
    assert "http:" not in html.source
    assert "https:" not in html.source
    assert "url(" not in html.source
    assert "@import" not in html.source


def test_references_within_the_page_lead_somewhere(html):
    ids = [element.attributes["id"] for element in html.elements if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    for element in html.elements:
        named = element.attributes.get("aria-labelledby", "").split()
        if element.attributes.get("href", "").startswith("#"):
            named.append(element.attributes["href"][1:])
        assert set(named) <= set(ids)


def test_sections_come_in_the_order_of_reading(html):
    sections = [element.attributes["id"] for element in html.all("section") if "id" in element.attributes]
    assert sections == ["results", "classes", "gallery", "training", "thresholds", "stages", "recipe"]


def test_tables_have_captions_and_heads(html):
    assert len(html.all("caption")) == len(html.all("table"))
    for head in html.all("th"):
        assert head.attributes["scope"] in ("col", "row")
    for line in (line for name in ("results", "classes") for line in html.rows(name)):
        assert line[0]


def test_pages_in_light_and_dark_and_on_phones(html):
    assert "prefers-color-scheme: dark" in html.source
    assert html.all("meta", name="viewport", content="width=device-width, initial-scale=1")


def test_the_results_say_threshold_best_of_sweep_and_coverage(html):
    head, *lines = html.rows("results")
    named = [dict(zip(head, line, strict=True)) for line in lines]
    assert [line["Result"] for line in named] == [
        "maps_ordinary",
        "maps_cgnet",
        "crf α=4",
        "crf α=24",
        "labels",
        "prediction",
    ]
    first, crf = named[0], named[2]
    assert first["mIoU, %"] == "44.3"
    assert first["Threshold"] == "0.3"
    assert first["Best of sweep*"] == "45.0 at 0.24"
    assert first["Labelled"] == "100.0 %"
    assert first["Images"] == "10"
    assert crf["Threshold"] == crf["Best of sweep*"] == ""
    assert crf["Labelled"] == "87.5 %"
    assert "found on ground truth" in next(p.text for p in html.all("p", id="sweep-note"))


def test_what_the_run_learnt_from_and_what_not(html):
    used, unused = html.all("div", class_="learning")[0].text.split("It did not learn from")
    assert "image tags" in used
    assert "ImageNet weights" in used
    assert "ground-truth masks read by evaluation alone" in " ".join(unused.split())
    assert "saliency maps" in unused


def test_stages_have_their_facts(html):
    head, *lines = html.rows("stages")
    crf = next(line for line in lines if line[0] == "crf")
    facts = dict(zip(head, crf, strict=True))
    assert facts == {
        "Stage": "crf",
        "Kind": "crf",
        "Time": "42 s",
        "Peak memory": "1.5 GiB",
        "Images": "10",
        "Device": "CPU, 2 threads",
        "Precision": "bf16",
        "Learnt from": "image tags, ImageNet weights",
        "Fingerprint": "04ab34cd56",
    }
    assert ["", "numba"] in lines
    assert "torch 2.13.0" in html.all("section", id="stages")[0].text


def test_training_curves_and_the_sweep_are_drawn_and_described(html):
    drawings = html.all("svg", role="img")
    assert len(drawings) == 3 * 5 + 1
    described = [element.text for element in html.all("desc")]
    assert any(text.startswith("loss: 0.") and "at step 300" in text for text in described)
    assert "fixed: 0.3" in html.all("svg", class_="chart")[-1].text
    assert html.all("circle", class_="ring")


def test_the_recipe_is_folded_away(html):
    assert "id: maps_ordinary" in html.all("details")[-1].text


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "a & b"]
)
def test_names_of_users_are_shown_as_they_are(builder, parsed, monkeypatch, name):
    monkeypatch.setattr(builder.data, "classes", (name, *builder.data.classes[1:]))
    builder.name = builder.description = name
    builder.skipped = [{"split": "val", "id": name, "reason": name}]
    builder.stage("notes", "crf", {}, notes=[name], device=name, supervision=[name])
    builder.maps("maps", 4, 0.4)
    builder.evaluate()
    html = parsed(write_report(builder.finish(), builder.data, gallery_images=10))
    assert len(html.all("script")) == 1
    assert not [element for element in html.elements if "onerror" in element.attributes]
    assert html.all("h1")[0].text == name
    assert html.rows("classes")[0][3] == name
    assert name in html.all("section", id="gallery")[0].text
    assert any(name in image.attributes["alt"] for image in html.all("img"))
    assert name in html.all("section", id="stages")[0].text


def test_only_the_projects_own_script_may_run(html, report):
    policy = html.all("meta", **{"http-equiv": "Content-Security-Policy"})[0].attributes["content"]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", policy)


def test_a_run_without_evaluation(builder, parsed):
    builder.training("ordinary", "classify", steps=5)
    html = parsed(write_report(builder.finish(), builder.data))
    assert "no evaluate stage" in html.all("section", id="results")[0].text
    assert not html.all("section", id="gallery")
    assert not html.all("section", id="thresholds")
    assert html.all("section", id="training")
    assert "evaluation alone" not in html.source


def test_a_run_without_training(builder, parsed):
    builder.stage("maps", "maps", {}, supervision=[])
    html = parsed(write_report(builder.finish(), builder.data))
    assert not html.all("section", id="training")
    assert "it has no training stage" in html.source


def test_a_training_that_logged_nothing(builder, parsed):
    builder.stage("ordinary", "classify", {})
    html = parsed(write_report(builder.finish(), builder.data))
    assert "No figures were logged." in html.source


def test_no_gallery_if_none_is_wanted(run, scenes, parsed):
    html = parsed(write_report(run, scenes, gallery_images=0))
    assert not html.all("section", id="gallery")
    assert not (html.folder / "images").exists()


def test_results_without_a_figure(builder, parsed):
    builder.evaluated("gone", "gone", "masks", None)
    builder.evaluate()
    html = parsed(write_report(builder.finish(), builder.data, gallery_images=1))
    assert html.rows("results")[1][2] == "–"
    assert set(html.rows("classes")[1][1:]) == {"–"}
    assert any("the run has no stage 'gone'" in gap.text for gap in html.all("p", class_="absent"))


def test_a_damaged_result_leaves_a_gap_with_the_reason(run, scenes, parsed):
    shutil.rmtree(next(run.glob("stages/labels-*/val")))
    mask = next(path for path in run.glob("stages/prediction-*/val/*.png"))
    mask.write_bytes(mask.read_bytes()[:40])
    html = parsed(write_report(run, scenes, gallery_images=10))
    gaps = [gap.text for gap in html.all("p", class_="absent")]
    assert len(gaps) == 11
    assert any(mask.name in gap for gap in gaps)


def test_pictures_of_two_splits_stand_apart(tmp_path, scenes, builder, parsed):
    builder.maps("maps_val", 4, 0.4)
    builder.evaluate("on_val")
    builder.split, builder.ids = "train", scenes.ids("train")
    builder.masks("labels", "labels", 0.5)
    builder.evaluate("on_train")
    html = parsed(write_report(builder.finish(), scenes, gallery_images=2))
    assert [h3.text for h3 in html.all("h3") if h3.text.startswith("Split")] == ["Split val", "Split train"] * 2
    # One result a split is not the best of anything.
    assert not html.all("strong")


def test_the_same_run_gives_the_same_files(run, scenes, tmp_path):
    write_report(run, scenes, gallery_images=2).parent.rename(tmp_path / "first")
    write_report(run, scenes, gallery_images=2)
    names = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*.*"))
    assert len(names) == 17
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (run / "report" / name).read_bytes()


def test_an_earlier_report_is_replaced_whole(run, scenes):
    write_report(run, scenes, gallery_images=4)
    write_report(run, scenes, gallery_images=1)
    assert len(list((run / "report/images").iterdir())) == 8
    assert not list(run.glob(".part-*"))


def test_an_earlier_report_outlives_a_full_disk(run, scenes, monkeypatch):
    write_report(run, scenes, gallery_images=1)
    (run / "report/mark").touch()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DiskFullError, match="report"):
        write_report(run, scenes, gallery_images=1)
    assert (run / "report/mark").exists()
    assert not list(run.glob(".part-*"))


def test_an_earlier_report_comes_back_if_its_place_cannot_be_taken(run, scenes, monkeypatch):
    write_report(run, scenes, gallery_images=1)
    (run / "report/mark").touch()
    rename = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if target == run / "report" and "earlier" not in path.name:
            raise PermissionError("refused")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(PermissionError):
        write_report(run, scenes, gallery_images=1)
    assert (run / "report/mark").exists()
    assert not list(run.glob(".part-*"))


def test_what_a_killed_report_left_is_put_in_order(run, scenes, monkeypatch):
    write_report(run, scenes, gallery_images=1)
    (run / "report/mark").touch()
    (run / "report").rename(run / ".part-report-earlier-123")
    (run / ".part-report-abc").mkdir()

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gallery, "write_galleries", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_report(run, scenes)
    assert (run / "report/mark").exists()
    assert not list(run.glob(".part-*"))


def test_a_folder_without_a_run(tmp_path, scenes):
    with pytest.raises(StoreError, match=r"run\.json: is missing: the run in this folder has not come to its end"):
        write_report(tmp_path, scenes)
    assert not list(tmp_path.iterdir())


def test_the_script_cannot_end_its_element():
    assert "</" not in (templates.HERE / "report.js").read_text()

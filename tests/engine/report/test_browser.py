import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from camshaft.engine.report import write_report

CHROMIUM = shutil.which("chromium")
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--headless",
    "--no-first-run",
    "--no-sandbox",
)

# Loaded into a copy of the page: enlarges a picture by its link, goes on by the keyboard, and writes what it found.
PROBE = """
const found = {errors: []};
addEventListener("error", (event) => found.errors.push(String(event.message || event.target.src)), true);
addEventListener("load", async () => {
  const images = [...document.querySelectorAll(".strip img")];
  for (const image of images) image.loading = "eager";
  const loaded = (image) => image.complete || new Promise((resolve) => image.addEventListener("load", resolve));
  await Promise.all(images.map(loaded));
  found.loaded = images.filter((image) => image.complete && image.naturalWidth > 0).length;
  found.images = images.length;
  found.width = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const dialog = document.querySelector("dialog");
  const press = (key) => dialog.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
  document.querySelector(".strip a").click();
  found.captions = [dialog.querySelector("p").textContent];
  for (const key of ["ArrowRight", "ArrowDown", "ArrowUp", "ArrowLeft", "ArrowLeft"]) {
    press(key);
    found.captions.push(dialog.querySelector("p").textContent);
  }
  const closed = new Promise((resolve) => dialog.addEventListener("close", resolve));
  dialog.querySelector("[data-close]").click();
  await closed;
  found.open = dialog.open;
  found.focus = document.activeElement.getAttribute("href");
  document.body.dataset.found = JSON.stringify(found);
});
"""


class Body(HTMLParser):
    found = ""

    def handle_starttag(self, tag, attrs):
        if tag == "body":
            self.found = dict(attrs).get("data-found", "")


def browse(file: Path, profile: Path, *arguments: str) -> tuple[str, str]:
    """What Chromium prints of a page, and what it says of errors on the page's console."""
    command = [CHROMIUM, *QUIET, "--enable-logging=stderr", f"--user-data-dir={profile}", *arguments, file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, "\n".join(re.findall(r".*CONSOLE.*", done.stderr))


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH")
@pytest.mark.parametrize("width", [390, 1360])
def test_the_page_in_a_browser(run, scenes, tmp_path, width):
    report = write_report(run, scenes, gallery_images=2)
    # The page's policy lets no other script run: the probe goes into a copy that lets it.
    text = re.sub(r"script-src 'sha256-[^']*'", "script-src 'unsafe-inline'", report.read_text(encoding="utf-8"))
    probed = report.with_name("probed.html")
    probed.write_text(text.replace("<style>", f"<script>{PROBE}</script><style>", 1), encoding="utf-8")
    arguments = (f"--window-size={width},900", "--virtual-time-budget=20000", "--dump-dom")
    dom, said = browse(probed, tmp_path / "profile", *arguments)
    body = Body()
    body.feed(dom)
    found = json.loads(body.found)
    assert said == ""
    assert found["errors"] == []
    assert found["loaded"] == found["images"] == 16
    assert found["width"] == 0, "nothing sticks out sideways"
    first = [caption.split(" · ")[0] for caption in found["captions"]]
    assert first == ["image", "truth", "truth", "truth", "image", "image"]
    assert found["captions"][2] != found["captions"][1] == found["captions"][3]
    assert found["open"] is False
    assert found["focus"].endswith("-image.jpg")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH")
def test_a_script_in_the_page_that_is_not_its_own_is_refused(run, scenes, tmp_path):
    report = write_report(run, scenes, gallery_images=1)
    report.write_text(report.read_text().replace("</main>", "<script>document.title = 'taken'</script></main>"))
    dom, said = browse(report, tmp_path / "profile", "--dump-dom")
    assert "<title>taken</title>" not in dom
    refused = said.splitlines()
    assert len(refused) == 1, "the page's own script is not"
    assert "Content Security Policy" in refused[0]

"""Pages in a real browser, by day and night, in print and without scripts: they fit, their images
load, nothing complains, their tables sort."""

import json
import re
import shutil
import subprocess

import pandas as pd
import pytest
from study_table import study_rows

from rcm.analysis.compare import compare
from rcm.analysis.runs import Run
from rcm.report.compare import Side, compare_pages
from rcm.report.index import Entry, headline, index_page
from rcm.report.layout import MINUS, NONE

PAGES = ("study", "index", "compare")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDTHS = (390, 1440)
PLANTED = f"""
<table><thead><tr><th>name</th><th>number</th></tr></thead><tbody>
<tr><th>b10</th><td>1,234.5<small>±9</small></td></tr><tr><th>b9</th><td>{NONE}</td></tr>
<tr><th>a</th><td>{MINUS}2.0</td></tr><tr><th>c</th><td>+10.0</td></tr>
<tr><th>d</th><td>93.1 %</td></tr>
</tbody></table>
"""
PROBE = """
<script>
const complaints = [];
for (const level of ["error", "warn"]) console[level] = (...words) => complaints.push(words.join());
const complain = (event) => complaints.push(event.message || event.target.outerHTML);
addEventListener("error", complain, true);
addEventListener("load", () => {
  const shown = (table, column) => [...table.tBodies[0].rows].map((row) => {
    const cell = row.cells[column].cloneNode(true);
    cell.querySelectorAll("small").forEach((small) => small.remove());
    return cell.textContent.trim();
  });
  const columns = [];
  for (const table of document.querySelectorAll("table"))
    [...table.querySelectorAll("thead button")].forEach((button, column) => {
      const states = [["", shown(table, column)]];
      for (const _ of "123") {
        button.click();
        const sorted = [...table.querySelectorAll("[aria-sort]")];
        const mark = sorted.length ? sorted[0].getAttribute("aria-sort") : "";
        if (sorted.length > 1 || (mark && sorted[0] !== button.parentNode)) throw "a wrong mark";
        states.push([mark, shown(table, column)]);
      }
      columns.push(states);
    });
  const { color, backgroundColor } = getComputedStyle(document.body);
  parent.postMessage({
    page: location.pathname.split("/").pop().split(".")[0],
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    colours: [color, backgroundColor],
    width: innerWidth,
    scrolls: document.documentElement.scrollWidth,
    images: [...document.images].map((image) => image.complete && image.naturalWidth > 0),
    columns, complaints,
  }, "*");
});
</script>
"""
HARNESS = """<!doctype html><pre id="heard"></pre><script>
const heard = [];
const say = (words) => {
  heard.push(words);
  document.getElementById("heard").textContent = JSON.stringify(heard);
};
addEventListener("message", (event) => say(event.data));
addEventListener("load", () => {
  for (const frame of document.querySelectorAll("iframe[sandbox]")) {
    const inside = frame.contentDocument;
    say({
      page: frame.title,
      width: frame.contentWindow.innerWidth,
      still: true,
      scrolls: inside.documentElement.scrollWidth,
      images: [...inside.images].map((image) => image.complete && image.naturalWidth > 0),
      buttons: inside.querySelectorAll("button").length,
      hidden: [...inside.querySelectorAll("td, dd, p, figcaption")]
        .filter((one) => one.textContent.trim() && !one.getClientRects().length).length,
      text: inside.body.innerText,
    });
  }
});
</script>"""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    return found


@pytest.fixture(scope="module")
def folder(report, frame, pipelines, tmp_path_factory):
    """Every kind of page twice: as it is, and as NAME.probed.html, which says what it is like."""
    made = tmp_path_factory.mktemp("browser")
    (name, figure), *_ = report.figures.items()
    (made / "first figure.png").write_bytes(figure)
    answers = {"supported": 2, "not supported": 0, "undecided": 5, "not tested": 1}
    about = ("cifar10", "resnet8", "1, 10", "3", "12", "2026-11-26 09:30", answers)
    top = headline(report.tables["main"])
    entries = [
        Entry("a-1", "A study of <many> techniques", *about, top, "study.html", "first figure.png"),
        Entry("b-2", "Another one, of which nothing is known"),
    ]
    runs = [Run(part, {"seeds": 3}, pipelines) for part in (frame, pd.DataFrame(OTHER))]
    sides = [Side(f"runs/{n}", run, "2 cores", {}) for n, run in zip("ab", runs, strict=True)]
    compared, _ = compare_pages(*sides, compare(*runs), "python launch.py --compare a b")
    pages = (report.html, index_page(entries), compared)
    for name, html in zip(PAGES, pages, strict=True):
        (made / f"{name}.html").write_text(html)
        probed = html.replace("<head>", f"<head>{PROBE}", 1)
        probed = probed.replace("<script>\n//", f"{PLANTED}<script>\n//", 1)
        (made / f"{name}.probed.html").write_text(probed)
    frames = [f'src="{p}.probed.html" width="{w}"' for p in PAGES for w in WIDTHS]
    frames += [
        f'src="{p}.html" width="{w}" title="{p}" sandbox="allow-same-origin"'
        for p in PAGES
        for w in WIDTHS
    ]
    inside = "".join(f'<iframe {frame} height="800"></iframe>' for frame in frames)
    (made / "harness.html").write_text(HARNESS + inside)
    return made


OTHER = study_rows(seeds=3, ratios=(1.0, 10.0, 100.0), noise=0.03)


def started(browser, folder, *options):
    """What the browser wrote."""
    fixed = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr")
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [browser, *fixed, profile, "--allow-file-access-from-files", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not [line for line in complaints if "Blocked script execution" not in line]
    return done.stdout


def heard(browser, folder, *options):
    """What pages say of themselves in frames of both widths: window widths below 500 are not to be
    had otherwise. By page, width, and whether scripts were off."""
    out = started(browser, folder, *options, "--dump-dom", (folder / "harness.html").as_uri())
    said = re.search(r'<pre id="heard">(.+?)</pre>', out, re.S)
    assert said, out[:500]
    plain = said[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    found = {(one["page"], one["width"], "still" in one): one for one in json.loads(plain)}
    assert set(found) == {(p, w, still) for p in PAGES for w in WIDTHS for still in (False, True)}
    return found


@pytest.fixture(scope="module")
def looks(browser, folder):
    return heard(browser, folder)


def contrast(colours):
    """The ratio of luminances of two colours rgb(r, g, b) (WCAG 2.1)."""
    both = []
    for colour in colours:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        both.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(both) / min(both), both[0] > both[1]


def number(text):
    return float(text.replace(MINUS, "-").replace(",", ""))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES)
def test_nothing_complains_and_nothing_overflows(looks, report, page, width):
    found = looks[page, width, False]
    assert found["complaints"] == []
    assert found["scrolls"] <= width
    assert len(found["images"]) == {"study": len(report.figures), "index": 1, "compare": 0}[page]
    assert all(found["images"])
    assert not found["dark"]
    ratio, light_ink = contrast(found["colours"])
    assert ratio > 7
    assert not light_ink


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES)
def test_without_scripts_everything_is_there(looks, report, page, width):
    found = looks[page, width, True]
    assert found["scrolls"] <= width
    assert all(found["images"])
    assert (found["buttons"], found["hidden"]) == (0, 0)
    if page == "study":
        assert len(found["images"]) == len(report.figures)
        for row in report.tables["claims"].itertuples():
            for words in (row.text, row.contrast, row.baseline, row.test):
                assert words in found["text"]


def test_at_night_ink_is_light_on_dark_paper(browser, folder):
    for (_, _, still), found in heard(browser, folder, "--force-dark-mode").items():
        if not still:
            assert found["dark"]
            ratio, light_ink = contrast(found["colours"])
            assert ratio > 7
            assert light_ink
            assert found["complaints"] == []


@pytest.mark.parametrize("page", PAGES)
def test_print_is_on_a4_and_figures_stand_upright(browser, folder, page):
    made = folder / f"{page}.pdf"
    printed = (f"--print-to-pdf={made}", "--no-pdf-header-footer")
    started(browser, folder, *printed, (folder / f"{page}.html").as_uri())
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", made.read_bytes())
    sizes = {(round(float(w) / 72 * 25.4), round(float(h) / 72 * 25.4)) for w, h in boxes}
    assert sizes == {(297, 210), (210, 297)} if page == "study" else {(297, 210)}


def test_numbers_with_signs_and_separators_sort_and_the_missing_come_last(looks):
    """The planted table stands behind all others."""
    names, numbers = looks["study", 1440, False]["columns"][-2:]
    assert names[1:] == [
        ["ascending", ["a", "b9", "b10", "c", "d"]],
        ["descending", ["d", "c", "b10", "b9", "a"]],
        ["", ["b10", "b9", "a", "c", "d"]],
    ]
    assert numbers[1:] == [
        ["descending", ["1,234.5", "93.1 %", "+10.0", f"{MINUS}2.0", NONE]],
        ["ascending", [f"{MINUS}2.0", "+10.0", "93.1 %", "1,234.5", NONE]],
        ["", ["1,234.5", NONE, f"{MINUS}2.0", "+10.0", "93.1 %"]],
    ]


@pytest.mark.parametrize(("page", "least"), [("study", 30), ("index", 3)])
def test_every_column_of_numbers_sorts_and_comes_back(looks, page, least):
    columns, numeric = looks[page, 1440, False]["columns"], 0
    for (_, printed), *sorted_states, (mark, back) in columns:
        assert (mark, back) == ("", printed)
        known = [text for text in printed if text != NONE]
        if not all(re.fullmatch(rf"[+{MINUS}]?[\d,.]+", text) for text in known):
            continue
        numeric += 1
        values = sorted(map(number, known))
        for direction, shown in sorted_states:
            found = [number(text) for text in shown[: len(known)]]
            assert found == (values if direction == "ascending" else values[::-1])
            assert set(shown[len(known) :]) <= {NONE}
    assert numeric > least

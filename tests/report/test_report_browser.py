"""The page in a real browser: it fits, its images load, nothing complains, its tables sort."""

import json
import re
import shutil
import subprocess

import pytest

from rcm.report.layout import MINUS, NONE

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
  parent.postMessage({
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
addEventListener("message", (event) => {
  heard.push(event.data);
  document.getElementById("heard").textContent = JSON.stringify(heard);
});
</script>"""


@pytest.fixture(scope="module")
def looks(report, tmp_path_factory):
    """What the page says of itself in frames of both widths: window widths below 500 are not to be
    had otherwise. By width."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    folder = tmp_path_factory.mktemp("browser")
    html = report.html.replace("<head>", f"<head>{PROBE}", 1)
    (folder / "report.html").write_text(html.replace("<script>\n//", f"{PLANTED}<script>\n//", 1))
    frames = (f'<iframe src="report.html" width="{w}" height="800"></iframe>' for w in WIDTHS)
    (folder / "harness.html").write_text(HARNESS + "".join(frames))
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr")
    command = [browser, *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*command, (folder / "harness.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    heard = re.search(r'<pre id="heard">(.+?)</pre>', done.stdout, re.S)
    assert heard, done.stdout[:500] + done.stderr
    plain = heard[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    found = {one["width"]: one for one in json.loads(plain)}
    assert set(found) == set(WIDTHS)
    return found


def number(text):
    return float(text.replace(MINUS, "-").replace(",", ""))


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_complains_and_nothing_overflows(looks, report, width):
    found = looks[width]
    assert found["complaints"] == []
    assert found["scrolls"] <= width
    assert len(found["images"]) == len(report.figures) > 0
    assert all(found["images"])


def test_numbers_with_signs_and_separators_sort_and_the_missing_come_last(looks):
    """The planted table stands behind all others."""
    names, numbers = looks[1440]["columns"][-2:]
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


def test_every_column_of_numbers_sorts_and_comes_back(looks):
    columns, numeric = looks[1440]["columns"], 0
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
    assert numeric > 30

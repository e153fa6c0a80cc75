"""Hostile text in what rcm shows and writes, and what is left out rather than refused."""

import io
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from rcm import calibrate, foreign, leaving, overview, shifted, upkeep, words
from rcm.data import datasets
from rcm.files import write_bytes
from rcm.foreign import parse_json
from rcm.progress import Display
from rcm.report.latex import latex, text
from rcm.report.layout import CellText
from rcm.report.printed import Printed
from rcm.report.rendering import markdown_cell, markdown_words
from rcm.store import Store
from tests.hostile import stored
from tests.hostile.making import ESCAPE, FORMULA, claiming, deep, loop, npy, objects, pipe, put

ESC = "\x1b"


def on_a_terminal():
    return Display(Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None))


def printed(display):
    found = display.console.file.getvalue()
    assert isinstance(found, str)
    return found


def test_a_name_in_a_line_or_a_table_cannot_steer_the_terminal():
    display = on_a_terminal()
    display.say(f"Report: {ESCAPE}/report.html")
    table = Table(title=ESCAPE)
    table.add_column(ESCAPE)
    table.add_row("\u202eevil\x9b31m")
    display.show(table)
    assert ESC not in printed(display)
    assert "\x07" not in printed(display)
    assert "\\x1b[31m" in printed(display)
    assert "\\u202eevil\\x9b31m" in printed(display)


def test_a_stage_is_called_what_it_is_called():
    """No markup of rich, which would raise for a tag that was never opened."""
    display = on_a_terminal()
    with display:
        display.start(f"testing [/bold] {ESCAPE}", 2, "images")
        display.advance(2)
        display.finish()
    assert "testing [/bold] red \\x1b[31m" in printed(display)
    assert f"{ESC}]0;title" not in printed(display)


def test_a_sentence_at_the_end_cannot_steer_the_terminal():
    with pytest.raises(SystemExit) as left, leaving.in_a_sentence():
        raise ValueError(f"{ESCAPE} is\nno class")
    assert left.value.code == "rcm: red \\x1b[31m\\x1b]0;title\\x07 is no class"


def test_names_of_all_languages_pass():
    for name in (
        "Füße",
        "кошка",
        "猫",
        "\u0642\u0637\u0629",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "👩‍🔬",
        "a\u00a0b",
        "-1",
        "+",
        "=",
        "@home",
        "",
    ):
        words.require_name(name, "the class")
        assert words.shown(name) == name


def test_markdown_takes_names_literally():
    assert markdown_words("<script>") == "\\<script>"
    assert markdown_words("\\<script>") == "\\\\\\<script>"
    assert markdown_words("![a](http://b)") == "!\\[a](http://b)"
    assert markdown_words("p < 0.05, [0, 1]") == "p < 0.05, [0, 1]"
    assert markdown_cell("a \\| b |\n<img src=x>") == "a \\\\\\| b \\| \\<img src=x>"


def test_latex_takes_names_literally():
    evil = "\\input{/etc/passwd}%\n\\write18{ls}$^^5c"
    row = ([evil], [CellText("1.0", note=evil)])
    table = latex(Printed("evil", evil, evil, [evil], [("", [evil])], [row]))
    for part in ("\\input", "\\write", "^^", "%\n"):
        assert part not in table
    assert table.count(text(evil)) == 6


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("config.json", lambda f, n: put(f, n, deep())),
        ("config.json", lambda f, n: put(f, n, b'{"a": ' + b"9" * 5000 + b"}")),
        ("config.json", lambda f, n: put(f, n, b'{"data": [], "model": 3, "title": {"a": null}}')),
        ("config.json", pipe),
        ("config.json", loop),
        ("log.jsonl", lambda f, n: put(f, n, deep() + b"\n" + b"\xff" * 99)),
        ("log.jsonl", lambda f, n: put(f, n, b'{"event": "finished", "time": [1]}')),
        ("log.jsonl", pipe),
        ("report.md", pipe),
        ("tables/main.csv", pipe),
        ("tables/main.csv", lambda f, n: put(f, n, b"dataset,ratio,pipeline,quantity,mean,lo,hi\n"
                                                   b"d,1,dense,accuracy,many,few,none\n")),
        ("tables/main.csv", lambda f, n: put(f, n, b"dataset,ratio,pipeline,quantity,mean,lo,hi\n"
                                                   b"d,1,dense,accuracy,inf,-inf,1e999\n")),
        ("tables/main.csv", lambda f, n: put(f, n, b'"\x00,\n' * 99)),
        ("tables/claims.csv", lambda f, n: put(f, n, b"answer\n" + b"\xff\xfe\n" * 9)),
        ("tables/claims.csv", lambda f, n: (f / n).mkdir(parents=True)),
    ],
)  # fmt: skip
def test_a_hostile_study_folder_does_not_keep_others_out_of_the_index(tmp_path, name, make):
    put(tmp_path, "sound/report.html", b"")
    folder = put(tmp_path, "<script>/report.html", b"").parent
    make(folder, name)
    page = overview.write_index(tmp_path).read_text()
    assert 'href="sound/report.html"' in page
    assert 'href="%3Cscript%3E/report.html"' in page
    assert page.count("<script") == 1


@pytest.mark.parametrize(
    "content",
    [deep(), b"[]", b'{"key": 3}', b'{"key": ["loop"]}', b'{"key": [{"a": 1}]}',
     b'{"key": [["loop", 1, 1, 1, "x"]]}', b'{"key": [["loop", 1, 1, [], 1.0]]}'],
)  # fmt: skip
def test_a_hostile_calibration_is_measured_again(tmp_path, content):
    path = put(tmp_path, "calibration.json", content)
    assert calibrate.remembered(path, "key") == {}


@pytest.mark.parametrize(
    ("note", "array"),
    [
        (b'{"crc32": 1}', lambda f: npy(objects(f))),
        (b'{"crc32": 1}', lambda f: claiming((10**11, 8, 8, 3))),
        (b"[]", lambda f: npy(np.zeros((1, 8, 8, 3), np.uint8))),
        (deep(), lambda f: npy(np.zeros((1, 8, 8, 3), np.uint8))),
        (b"{}", lambda f: npy(np.asfortranarray(np.zeros((1, 8, 8, 3), np.uint8)))),
    ],
)
def test_hostile_kept_images_are_made_again(tmp_path, note, array):
    put(tmp_path, "a.json", note)
    path = put(tmp_path, "a.npy", array(tmp_path))
    assert shifted._read(path, (1, 8, 8, 3)) is None


def test_a_lock_that_is_a_link_harms_nothing(tmp_path):
    store = Store(tmp_path / "workdir")
    precious = put(tmp_path, "precious", b"precious")
    (store.stages / "locks" / "stage.lock").symlink_to(precious)
    with store.lock("stage") as held:
        assert held
    assert precious.read_bytes() == b"precious"


def test_pruning_deletes_nothing_that_a_link_leads_to(tmp_path):
    """A round, and a round's predictions, that are links to folders of somebody's own."""
    store, theirs = Store(tmp_path / "workdir"), put(tmp_path, "theirs/clean.npz", b"x").parent
    labels = ["[/bold] \x1b[2J ratio 1 seed 0"]
    record = json.dumps({**stored.RECORD, "labels": labels}).encode()
    for folder in (theirs, store.stages / "own"):
        put(folder, "record.json", record)
    put(theirs, "predictions/clean.npz", b"x")
    (store.stages / "linked").symlink_to(theirs)
    (store.stages / "own" / "predictions").symlink_to(theirs)
    put(tmp_path, "workdir/study/stages.json", b'{"members": ["one"], "tested": []}')
    before = sorted(path.relative_to(theirs) for path in theirs.rglob("*"))
    display = on_a_terminal()
    assert upkeep.execute(["status", "prune_store"], str(store.root), True, display) == 0
    put(tmp_path, "workdir/study/stages.json", b'{"members": [], "tested": []}')
    assert upkeep.execute(["prune_store"], str(store.root), True, display) == 0
    assert sorted(path.relative_to(theirs) for path in theirs.rglob("*")) == before
    assert not list(store.stages.glob("*/record.json"))
    assert "\x1b[2J" not in printed(display)
    assert "[/bold] \\x1b[2J" in printed(display)


def test_a_half_written_file_that_is_a_link_harms_nothing(tmp_path):
    precious = put(tmp_path, "precious", b"precious")
    (tmp_path / f".a.{os.getpid()}.part").symlink_to(precious)
    write_bytes(tmp_path / "a", b"new")
    assert precious.read_bytes() == b"precious"
    assert (tmp_path / "a").read_bytes() == b"new"


def test_unusual_files_that_mean_no_harm_are_read(tmp_path):
    """Big-endian labels, images in Fortran's order, and a small file that compresses very well."""
    images = np.zeros((400, 32, 32, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(400) // 20, np.arange(400) % 20
    labels = np.arange(400, dtype=">i8") % 2
    path = tmp_path / "a.npz"
    np.savez_compressed(
        path,
        train_images=np.asfortranarray(images),
        train_labels=labels,
        test_images=images,
        test_labels=labels,
        classes=np.array(["=", "-1"]),
    )
    assert path.stat().st_size * foreign.TIMES < 2 * images.nbytes < foreign.SMALL
    data = datasets.load(str(path), cache_dir=tmp_path)
    assert data.train.labels.tolist() == [0] * 200 + [1] * 200
    assert sorted(map(bytes, data.train.images)) == sorted(map(bytes, images))
    assert data.classes == ("=", "-1")


def test_json_as_python_writes_it_is_read():
    value = {"a": [1, 2.5, None, True, "\N{SNOWMAN}", float("-inf"), 2**63], "b": {"c": []}}
    assert parse_json(json.dumps(value, indent=1)) == value
    assert math.isnan(parse_json("NaN"))
    with pytest.raises(ValueError, match="its JSON says 'a' twice"):
        parse_json('{"a": 1, "a": 1}')


def test_no_formula_reaches_a_table():
    """Whatever a spreadsheet would run is refused as a name of a class, model, shift or folder."""
    for name in (FORMULA, "+cmd|' /C calc'!A0", "@SUM(1)", "-1+1|'x'!A1"):
        with pytest.raises(ValueError, match="a spreadsheet would run: rename it"):
            words.require_name(name, "the class")


def test_files_of_one_another_are_told_apart(tmp_path):
    for path, reason in (
        (tmp_path / "none", "there is no such file"),
        (tmp_path, "it is no ordinary file"),
        (loop(tmp_path, "loop"), "it is no ordinary file"),
        (Path("/dev/zero"), "it is no ordinary file"),
        (tmp_path / ("a" * 300), "File name too long"),
    ):
        with pytest.raises(ValueError, match=reason):
            foreign.read_bytes(path)
    with pytest.raises(ValueError, match="it has 3 bytes, expected at most 2"):
        foreign.read_bytes(put(tmp_path, "a", b"abc"), 2)

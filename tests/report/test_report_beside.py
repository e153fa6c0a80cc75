"""What lies beside the page: tables for papers and for programs, figures in every format."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.mathtext import MathTextParser
from PIL import Image

from rcm.report.beside import comma_separated
from rcm.report.latex import cell, latex, narrow, text
from rcm.report.layout import CellText
from rcm.report.printed import Printed

MINUS, NONE = "\N{MINUS SIGN}", "\N{EN DASH}"
EVIL = "a_b & 50 % $x$ #1 {y} \\input{z} ~ ^ <"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (CellText("84.1", "±0.6"), r"$84.1 \pm 0.6$"),
        (CellText(f"{MINUS}2.0", "±0.5", True), r"$\mathbf{-2.0} \pm 0.5$"),
        (CellText("+1,234.5"), r"$+1{,}234.5$"),
        (CellText(NONE), "--"),
        (CellText("1.0", "±0.1", note="n = 2"), r"$1.0 \pm 0.1$ (n = 2)"),
        (CellText("93.7 %", "[93.1, 94.2]"), r"93.7 \% [93.1, 94.2]"),
        (CellText("p_50", "67.1 %, best in 9 %", True), r"\textbf{p\_50} 67.1 \%, best in 9 \%"),
    ],
)  # fmt: skip
def test_cells_as_latex(shown, expected):
    assert cell(shown) == expected


def without_commands(latex_text):
    """What is left without escaped characters, mathematics and commands: no special character."""
    left = re.sub(r"\\[&%$#_{}]", "", latex_text)
    left = re.sub(r"\$[^$]*\$", "", left)
    return re.sub(r"\\text(backslash|asciitilde|asciicircum)\{\}", "", left)


def test_special_characters_are_escaped():
    assert text("a_b & 50 %") == r"a\_b \& 50 \%"
    assert not set("&%$#_{}~^<\\") & set(without_commands(text(EVIL)))
    assert text(f"prune 50 % → int8 {MINUS}1") == r"prune 50 \% $\to$ int8 $-$1"


@pytest.mark.parametrize("widths", [(), (0.5, 0.0, 0.25, 0.0)])
def test_a_table_keeps_its_shape_with_hostile_names(widths):
    cells = [CellText(EVIL), CellText("1.0")]
    table = Printed("t", EVIL, EVIL, [EVIL, EVIL], [("", [EVIL]), (EVIL, [EVIL])],
                    [([EVIL, ""], cells), (["[1pt]", "*"], cells)], widths)  # fmt: skip
    made = latex(table)
    rows = [line for line in made.splitlines() if line.endswith(r"\\")]
    if widths:
        caption, *heads = rows[:3]
        assert caption.startswith(r"\caption{")
        assert rows[3:5] == heads  # on later pages
        rows = rows[3:]
    assert columns_declared(made) == 4
    assert len(rows) == 4
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {3}
    assert r"\cmidrule(lr){4-4}" in made
    assert [row.startswith("{}[") for row in rows] == [False, False, False, True]


def columns(row):
    """Columns that a row of a tabular takes."""
    parts = re.split(r"(?<!\\)&", row)
    spans = (re.match(r"\s*\\multicolumn\{(\d+)\}", part) for part in parts)
    return sum(int(span[1]) if span else 1 for span in spans)


def columns_declared(made):
    """Columns that a tabular or longtable is made for."""
    kinds = re.search(r"\\begin\{(?:tabular|longtable)\}\{(.*)\}", made)[1]
    kinds = re.sub(r">\{\\raggedright\\arraybackslash\}p\{[\d.]+\\textwidth\}", "p", kinds)
    kinds = kinds.replace("@{}", "")
    assert set(kinds) <= set("lrp")
    return len(kinds)


def test_a_wide_table_is_cut_between_what_columns_share():
    """Five, four and nine columns: no more than eight numbers in one; words are in every one."""
    groups = [
        (name, [f"{name}{i}" for i in range(count)])
        for name, count in zip("abc", (5, 4, 9), strict=True)
    ]
    cells = [CellText(head) for _, heads in groups for head in heads]
    cut = narrow(Printed("t", "T", "", ["w"], groups, [(["x"], cells)]))
    heads = [[head for _, own in part.groups for head in own] for part in cut]
    assert heads == [
        ["a0", "a1", "a2", "a3", "a4"],
        ["b0", "b1", "b2", "b3"],
        ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"],
        ["c8"],
    ]
    assert [[cell.value for cell in part.rows[0][1]] for part in cut] == heads
    assert {tuple(part.rows[0][0]) for part in cut} == {("x",)}
    assert cut[3].groups[0][0] == "c"
    made = latex(Printed("t", "T", "", ["w"], groups, [(["x"], cells)]))
    assert made.count(r"\begin{tabular}") == 4
    assert made.count(r"\caption") == made.count(r"\begin{table}") == 1


def test_every_printed_table_is_there_as_markdown_and_latex(report):
    tex = {path: content for path, content in report.files.items() if path.endswith(".tex")}
    assert {"tables/main_ratio_1.tex", "tables/main_ratio_100.tex", "tables/trade-offs.tex"} < set(
        tex
    )
    parser = MathTextParser("path")
    for path, content in tex.items():
        made = content.decode()
        _, *tabulars = re.split(r"(?=\\begin\{(?:tabular|longtable)\})", made)
        declared = [columns_declared(tabular) for tabular in tabulars]
        for tabular, width in zip(tabulars, declared, strict=True):
            rows = [line for line in tabular.splitlines() if line.endswith(r"\\")]
            rows = [row for row in rows if not row.startswith(r"\caption")]
            assert {columns(row) for row in rows} == {width}
        words = len(re.search(r"\{(l+)r*\}", tabulars[0])[1]) if len(tabulars) > 1 else 0
        width = sum(declared) - words * (len(tabulars) - 1)  # every tabular repeats its words
        for mathematics in {re.sub(r"\d", "0", m) for m in re.findall(r"\$[^$]+\$", made)}:
            parser.parse(mathematics)  # raises for what it cannot set
        markdown = report.files[path.replace(".tex", ".md")].decode()
        lines = [line for line in markdown.splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {width + 1}
        if path == "tables/claims.tex":  # which goes on to the right there
            assert all(f"\n{line}" in report.markdown for line in lines)
        elif path != "tables/reasons_and_published_numbers.tex":  # which stand to the right there
            assert "\n".join(lines) in report.markdown
    assert r"\cmidrule(lr){3-" in tex["tables/main_ratio_100.tex"].decode()


def test_tables_are_the_same_as_csv_and_parquet(report):
    for name, table in report.tables.items():
        again = pd.read_parquet(io.BytesIO(report.files[f"tables/{name}.parquet"]))
        pd.testing.assert_frame_equal(again, table, check_dtype=False)
        assert report.files[f"tables/{name}.csv"] == table.to_csv(index=False).encode()


@pytest.mark.parametrize("word", ["plain", "a, b", 'say "a"', "two\nlines", "\r", "é"])
def test_comma_separated_values_are_those_of_pandas(word):
    table = pd.DataFrame({
        "float": [0.0, -0.0, np.nan, 0.1 + 0.2, 1e-300, -np.inf],
        "whole": [1, -(2**62), 1, 0, 2, 3],
        "flag": [True, False, True, True, False, False],
        "word": [word, "", word, None, "NaN", "-"],
        word: 1.0,
    })  # fmt: skip
    mixed = pd.Series([1, True, 1.0, None, "1", np.nan], dtype=object)
    single = np.float32([0.1, 1, 2, 3, 4, 5])
    for given in (table, table[:0], table.assign(more=mixed), table.assign(more=single)):
        assert comma_separated(given) == given.to_csv(index=False).encode()


def test_figures_are_there_in_every_format(report):
    for name, png in report.figures.items():
        assert report.files[f"figures/{name}.png"] == png
        pdf, svg = (report.files[f"figures/{name}.{kind}"] for kind in ("pdf", "svg"))
        assert pdf.startswith(b"%PDF-")
        assert b"/Type /Font" in pdf
        assert b"/Type3" not in pdf
        assert not re.search(rb"CreationDate|\d{4}-\d\d-\d\d", pdf + svg)
        assert b"var(" not in svg  # editors do not know variables
        box = [float(x) for x in re.search(rb"/MediaBox \[([\d. ]+)\]", pdf)[1].split()]
        with Image.open(io.BytesIO(png)) as image:
            assert image.width / image.height == pytest.approx(box[2] / box[3], rel=0.01)

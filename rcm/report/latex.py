r"""Printed tables for papers: LaTeX with the rules of booktabs.

A mean and its interval become `$84.1 \pm 0.6$`; all else is text, its special characters escaped.
"""

import re
from collections.abc import Sequence

from rcm.report.layout import MINUS, CellText
from rcm.report.printed import Printed

COLUMNS = 8  # of numbers, which a page takes beside words
NUMBER = re.compile(rf"[+{MINUS}]?[\d,]+(\.\d+)?")
TEXT = str.maketrans(
    {
        **{letter: f"\\{letter}" for letter in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": "$<$",
        ">": "$>$",
        MINUS: "$-$",
        "\N{EN DASH}": "--",
        "\N{HORIZONTAL ELLIPSIS}": r"\dots{}",
        "\N{MULTIPLICATION SIGN}": r"$\times$",
        "\N{DIVISION SIGN}": r"$\div$",
        "\N{MIDDLE DOT}": r"$\cdot$",
        "\N{PLUS-MINUS SIGN}": r"$\pm$",
        "\N{RIGHTWARDS ARROW}": r"$\to$",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{NO-BREAK SPACE}": "~",
    }
)


def latex(table: Printed) -> str:
    """A `table` environment that needs the package booktabs and nothing else, of several `tabular`
    below each other where one would be wider than a page; a table of sentences as a `longtable`,
    which goes on over pages."""
    caption = f"\\caption{{{text(table.title)}. {text(table.note)}}}"
    label = f"\\label{{tab:{table.name}}}"
    if table.widths:
        rows = [*map(_row, table.rows)]
        return _long(table, f"{caption}{label}", _heads(table), rows)
    lines = ["% \\usepackage{booktabs}", "\\begin{table}", "\\centering", caption, label]
    for place, part in enumerate(narrow(table)):
        lines += ["\\par\\bigskip"] if place else []
        lines += [
            f"\\begin{{tabular}}{{{'l' * len(part.words)}{'r' * part.numbers}}}",
            *_heads(part),
            *map(_row, part.rows),
            "\\bottomrule",
            "\\end{tabular}",
        ]
    return "\n".join([*lines, "\\end{table}", ""])


def narrow(table: Printed) -> list[Printed]:
    """The table in pieces of at most `COLUMNS` numbers, each with all words; heads that columns
    share are not parted from them unless there are more below one."""
    pieces: list[tuple[str, list[str]]] = [
        (head, heads[i : i + COLUMNS])
        for head, heads in table.groups
        for i in range(0, max(len(heads), 1), COLUMNS)
    ]
    made, first = [], 0
    while pieces:
        own = [pieces.pop(0)]
        count = len(own[0][1])
        while pieces and count + len(pieces[0][1]) <= COLUMNS:
            count += len(pieces[0][1])
            own.append(pieces.pop(0))
        rows = [(words, cells[first : first + count]) for words, cells in table.rows]
        made.append(table._replace(groups=own, rows=rows))
        first += count
    return made or [table]


def _long(table: Printed, caption: str, heads: list[str], rows: list[str]) -> str:
    """Its columns of words as paragraphs; in small print with little space between columns."""
    kinds = "l" * len(table.words) + "r" * table.numbers
    columns = "".join(map(_column, kinds, table.widths))
    lines = [
        "% \\usepackage{booktabs,longtable,array}; where text has two columns, within \\onecolumn",
        "\\begingroup",
        "\\footnotesize",
        "\\setlength{\\tabcolsep}{3pt}",
        f"\\begin{{longtable}}{{@{{}}{columns}@{{}}}}",
        f"{caption} \\\\",
        *heads,
        "\\endfirsthead",
        *heads,
        "\\endhead",
        "\\bottomrule",
        "\\endfoot",
        *rows,
        "\\end{longtable}",
        "\\endgroup",
        "",
    ]
    return "\n".join(lines)


def _column(kind: str, width: float) -> str:
    return f">{{\\raggedright\\arraybackslash}}p{{{width:g}\\textwidth}}" if width else kind


def _heads(table: Printed) -> list[str]:
    """The lines from the top rule to the one below the heads."""
    first = len(table.words) + 1
    own = [text(head) for head in (*table.words, *(h for _, heads in table.groups for h in heads))]
    lines = ["\\toprule"]
    if any(head for head, _ in table.groups):
        shared = [_shared(head, len(heads)) for head, heads in table.groups]
        lines.append(f"{'& ' * (first - 1)}{' & '.join(shared)} \\\\")
        lines.append(" ".join(_rules(table.groups, first)))
    return [*lines, f"{' & '.join(own)} \\\\", "\\midrule"]


def _row(parts: tuple[list[str], list[CellText]]) -> str:
    words, cells = parts
    row = " & ".join([*map(text, words), *map(cell, cells)])
    guard = "{}" if row.startswith(("[", "*")) else ""  # an argument of the line break before
    return f"{guard}{row} \\\\"


def _shared(head: str, columns: int) -> str:
    return f"\\multicolumn{{{columns}}}{{c}}{{{text(head)}}}" if head else "& " * (columns - 1)


def _rules(groups: Sequence[tuple[str, list[str]]], first: int) -> list[str]:
    """A thin rule below each head that columns share; the first of them is the column `first`."""
    made = []
    for head, heads in groups:
        if head:
            made.append(f"\\cmidrule(lr){{{first}-{first + len(heads) - 1}}}")
        first += len(heads)
    return made


def text(words: str) -> str:
    """Words as LaTeX sets them, special characters included."""
    return " ".join(words.translate(TEXT).split())


def cell(shown: CellText) -> str:
    """A cell; the value is bold where 0 is outside, and a note stands behind it."""
    note = f" ({text(shown.note)})" if shown.note else ""
    if not NUMBER.fullmatch(shown.value):
        value = text(shown.value)
        value = f"\\textbf{{{value}}}" if shown.strong else value
        return f"{value} {text(shown.margin)}".strip() + note
    value = _number(shown.value)
    value = f"\\mathbf{{{value}}}" if shown.strong else value
    margin = f" \\pm {_number(shown.margin[1:])}" if shown.margin else ""
    return f"${value}{margin}${note}"


def _number(printed: str) -> str:
    return printed.replace(MINUS, "-").replace(",", "{,}")

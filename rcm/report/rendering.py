"""The templates, and how they write numbers and names."""

import re

import jinja2

from rcm.report.layout import NONE

MARKUP = re.compile(r"<(?=[A-Za-z/!?])|\[(?=[^\]]*\][(\[:])|\\(?=[\\<\[|])")  # of Markdown


def template(name: str) -> jinja2.Template:
    """The template of a file; in HTML everything that is filled in is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rcm.report"),
        autoescape=name.endswith("html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"p_value": p_value, "cell": markdown_cell, "words": markdown_words}
    return environment.get_template(f"{name}.jinja")


def markdown_cell(text: str) -> str:
    """`text` fit for a cell of a Markdown table: as `markdown_words`, its bars escaped."""
    return " ".join(markdown_words(text).replace("|", "\\|").split())


def markdown_words(text: str) -> str:
    """`text` in which no tag of HTML, link or picture begins."""
    return MARKUP.sub(r"\\\g<0>", text)


def p_value(p: float) -> str:
    """A p-value with three significant digits, "<0.001" below, a dash if there is none."""
    return NONE if p != p else "<0.001" if p < 0.001 else f"{p:.3g}"


def duration(seconds: float) -> str:
    """Wall time for people: "48 s", "12 min 5 s", "3 h 20 min"."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    minutes, rest = divmod(total, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"

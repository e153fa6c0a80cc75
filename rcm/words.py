"""Words from elsewhere: which names tables can bear, and what a terminal is shown."""

import re
import unicodedata

LONGEST = 500  # letters of a name
UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # Unicode's control letters, halves of pairs, ends of lines
TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # what stands around
FORMULA = re.compile(r"[=+\-@].*[(|!]")  # runs something where a spreadsheet opens a table


def require_name(text: str, what: str) -> None:
    """Raise ValueError, beginning with `what`, unless the text is one line of letters that are
    seen, not too long, and no formula."""
    for wrong, why in (
        (len(text) > LONGEST, f"has {len(text):,} letters, expected at most {LONGEST}"),
        (not all(map(_is_seen, text)), "holds letters that steer a terminal or cannot be seen"),
        (bool(FORMULA.match(text)), "begins like a formula, which a spreadsheet would run"),
    ):
        if wrong:
            start = shown(text[:40]).replace("\n", "\\n")
            raise ValueError(f"{what} '{start}' {why}: rename it.")


def shown(text: str) -> str:
    """The text with what would steer a terminal written out, such as \\x1b; lines stay."""
    return "".join(a if a in "\n\t" or _is_seen(a) else _written_out(a) for a in text)


def _is_seen(letter: str) -> bool:
    return unicodedata.category(letter) not in UNSEEN and letter not in TURNING


def _written_out(letter: str) -> str:
    return letter.encode("unicode_escape").decode()

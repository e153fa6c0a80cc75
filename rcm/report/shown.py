"""Where a page shows what its claims are about."""

from collections.abc import Sequence
from typing import NamedTuple

from rcm.analysis.claims import Verdict
from rcm.report.sections import Section
from rcm.report.style import Figure

RESULTS = "results"  # what the main tables are called in links


class Place(NamedTuple):
    """A figure or section: its title, and the links to it in the page and in Markdown."""

    title: str
    link: str
    markdown: str


def places(
    claims: Sequence[Verdict], figures: Sequence[Figure], sections: Sequence[Section]
) -> dict[str, list[Place]]:
    """By the claims' ids, of those that name a figure or a section of this page; figures whose
    names go on after the claim's word (one per ratio, one per block) are all meant."""
    known = {RESULTS: Place("Results", f"#{RESULTS}", f"#{RESULTS}")}
    known |= {one.anchor: Place(one.title, f"#{one.anchor}", f"#{one.anchor}") for one in sections}
    found = {}
    for claim in (verdict.claim for verdict in claims if verdict.claim.figure):
        drawn = [f for f in figures if f"{f.name}_".startswith(f"{claim.figure}_")]
        if drawn:
            found[claim.id] = [
                Place(one.title, f"#figure-{one.name}", f"figures/{one.name}.png") for one in drawn
            ]
        elif claim.figure in known:
            found[claim.id] = [known[claim.figure]]
    return found

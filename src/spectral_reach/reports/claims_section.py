"""The claims of the paper beside what the runs say: counts in the head, and the table with every number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from spectral_reach.reports.markup import Markup, element, joined
from spectral_reach.reports.private_paths import without_paths
from spectral_reach.reports.tables import scrolling
from spectral_reach.studies.analysis.claims import ClaimsTable, Finding, Verdict

COLUMNS = ("data", "measure", "verdict", "estimate (95% interval)", "from", "statistic", "why")

_READING = (
    "A claim is a sentence of the paper; a finding is what one data set says about it by one measure. The rules that "
    "make a number into a verdict are fixed in the code, the same for every study, and were last revised after trial "
    "runs; they are as strict for “contradicted” as for “supported”, and whatever fits neither is inconclusive. "
    "chi_pos is that of mini-batches, raised by gradient noise; chi_pos_unbiased is the population's."
)


def claims_summary(claims: ClaimsTable) -> Markup:
    """How many findings have each verdict, for the head of the page."""
    return joined(
        element(
            "p",
            f"{len(claims.claims)} claims of the paper are put to these runs, by data set and by measure. Of the "
            f"{len(claims.findings)} findings:",
        ),
        element(
            "ul",
            (element("li", verdict_mark(verdict), f": {n}") for verdict, n in claims.counts.items()),
            class_="verdicts",
            aria_label="Findings by verdict",
        ),
    )


def claims_section(claims: ClaimsTable) -> Markup:
    """The table, and below it where the two measures of position differ."""
    return joined(element("p", _READING), _table(claims), _differences(claims))


def verdict_mark(verdict: Verdict) -> Markup:
    """The verdict as a word with its mark and colour."""
    return element("span", str(verdict), class_=f"verdict {str(verdict).replace(' ', '-')}")


def _table(claims: ClaimsTable) -> Markup:
    head = element("tr", (element("th", column, scope="col") for column in COLUMNS))
    groups = (list(group) for _, group in groupby(claims.findings, key=lambda finding: finding.claim))
    return scrolling(
        "Claims",
        element(
            "table",
            element("caption", "Claims of the paper and findings of these runs"),
            element("thead", head),
            (_claim(claims.statement(group[0]), group) for group in groups),
            class_="claims",
        ),
    )


def _claim(statement: str, findings: Sequence[Finding]) -> Markup:
    heading = element(
        "th",
        element("span", statement, class_="statement"),
        colspan=len(COLUMNS),
        scope="rowgroup",
        id=f"claim-{findings[0].claim}",
    )
    return element("tbody", element("tr", heading), (element("tr", _cells(each)) for each in findings))


def _cells(finding: Finding) -> Iterator[Markup]:
    yield element("td", str(without_paths(finding.family)), class_="data")
    yield element("td", finding.measure or "–", class_="nowrap")
    yield element("td", verdict_mark(finding.verdict))
    # The names are shown where there is no room for columns.
    yield element("td", _estimate(finding), data_name="estimate")
    yield element("td", finding.n_in_words, data_name="from")
    yield element("td", finding.statistic or "–", class_="statistic", data_name="statistic")
    yield element("td", str(without_paths(finding.reason)), class_="reason")


def _estimate(finding: Finding) -> Markup:
    """The value, and its interval in a piece that goes to a line of its own where it has to."""
    value, bracket, ends = finding.estimate_in_words.partition(" (")
    return joined(
        element("span", value, class_="nowrap"), " ", element("span", bracket.strip() + ends, class_="nowrap")
    )


def _differences(claims: ClaimsTable) -> Markup:
    title = element("h3", "Where chi_pos and chi_pos_unbiased differ")
    if claims.differences:
        return joined(title, element("ul", (element("li", str(without_paths(each))) for each in claims.differences)))
    same = "Nowhere: both lead to the same verdicts."
    words = same if claims.are_compared else "No claim has been judged by both yet."
    return joined(title, element("p", words))

"""The claims table: findings in the order of the claims, and where the two measures of position differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from spectral_reach.studies.analysis.claims.claim import Claim
from spectral_reach.studies.analysis.claims.finding import POSITIONS, Finding
from spectral_reach.studies.analysis.report import Section
from spectral_reach.studies.analysis.verdict import Verdict

COLUMNS = ("claim", "data", "measure", "statistic", "estimate (95% interval)", "from", "verdict", "why")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimsTable:
    """What the runs say about the paper.

    Attributes:
        claims: all of them, in order.
        findings: in the order of the claims; every claim has one at least.
    """

    claims: tuple[Claim, ...]
    findings: tuple[Finding, ...]

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many findings have each verdict."""
        found = Counter(finding.verdict for finding in self.findings)
        return {verdict: found[verdict] for verdict in Verdict}

    @property
    def differences(self) -> tuple[str, ...]:
        """A sentence for each finding whose verdict is another for chi_pos than for chi_pos_unbiased."""
        return tuple(
            self._difference(mini_batch, unbiased)
            for mini_batch, unbiased in self._in_both()
            if mini_batch.verdict != unbiased.verdict
        )

    @property
    def are_compared(self) -> bool:
        """Whether any claim is judged on some runs by chi_pos and by chi_pos_unbiased."""
        return bool(self._in_both())

    def statement(self, finding: Finding) -> str:
        """What the paper says that this finding is about."""
        return next(claim.statement for claim in self.claims if claim.key == finding.claim)

    def as_rows(self) -> list[dict[str, str | int | float]]:
        """A flat row a finding, for CSV: the fields of ``Finding`` and the claim's ``statement``."""
        return [
            {
                "claim": finding.claim,
                "statement": self.statement(finding),
                **{
                    each.name: getattr(finding, each.name)
                    for each in fields(finding)
                    if each.name not in ("claim", "verdict")
                },
                "verdict": str(finding.verdict),
            }
            for finding in self.findings
        ]

    def as_values(self) -> Mapping[str, Any]:
        """Everything, for JSON."""
        return {
            "counts": {str(verdict): n for verdict, n in self.counts.items()},
            "findings": self.as_rows(),
            "differences": list(self.differences),
        }

    def section(self) -> Section:
        """The table and a paragraph, for ``Report``."""
        return Section(
            title="Claims of the paper",
            columns=COLUMNS,
            rows=tuple(
                (
                    self.statement(finding),
                    finding.family,
                    finding.measure or "–",
                    finding.statistic or "–",
                    finding.estimate_in_words,
                    finding.n_in_words,
                    str(finding.verdict),
                    finding.reason,
                )
                for finding in self.findings
            ),
            text=self.in_words(),
            left_out_if_narrow=("statistic", "from", "why"),
        )

    def in_words(self) -> str:
        """How many findings have each verdict, and where the two measures of position differ."""
        counted = f"Findings: {', '.join(f'{n} {verdict}' for verdict, n in self.counts.items())}."
        if self.differences:
            return f"{counted} chi_pos and chi_pos_unbiased differ: {' '.join(self.differences)}"
        return f"{counted} chi_pos and chi_pos_unbiased lead to the same verdicts." if self.are_compared else counted

    def _in_both(self) -> list[tuple[Finding, Finding]]:
        """The findings of one statistic on the same runs by chi_pos and by chi_pos_unbiased, in order."""
        found: dict[tuple[str, ...], dict[str, Finding]] = {}
        for finding in self.findings:
            if finding.measure in POSITIONS:
                key = (finding.claim, finding.study, finding.family, _without_measure(finding))
                found.setdefault(key, {})[finding.measure] = finding
        mini_batch, unbiased = POSITIONS
        return [(each[mini_batch], each[unbiased]) for each in found.values() if len(each) == len(POSITIONS)]

    def _difference(self, mini_batch: Finding, unbiased: Finding) -> str:
        what = f"{self.statement(unbiased).rstrip('.')} ({unbiased.family}; {_without_measure(unbiased)})"
        verdicts = [f"{each.verdict} for {each.measure}, {each.estimate_in_words}" for each in (mini_batch, unbiased)]
        return f"{what}: {', but '.join(verdicts)}."


def _without_measure(finding: Finding) -> str:
    """The statistic with a word in place of the measure, the same for both."""
    return finding.statistic.replace(finding.measure, "position")

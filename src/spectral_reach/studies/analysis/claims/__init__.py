"""The claims of the paper, judged by our own runs: one claim a file, its rule fixed before there were results."""

from spectral_reach.studies.analysis.claims.claim import Claim
from spectral_reach.studies.analysis.claims.evaluate import evaluate
from spectral_reach.studies.analysis.claims.finding import Finding
from spectral_reach.studies.analysis.claims.table import ClaimsTable
from spectral_reach.studies.analysis.verdict import Verdict

__all__ = ["Claim", "ClaimsTable", "Finding", "Verdict", "evaluate"]

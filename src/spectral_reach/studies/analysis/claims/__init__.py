"""The claims of the paper, judged by our own runs: one claim a file.

The rules are fixed in the code and apply to every study alike. They were last changed after trial runs of older presets
had been seen, to correct their statistics.
"""

from spectral_reach.studies.analysis.claims.claim import Claim
from spectral_reach.studies.analysis.claims.evaluate import evaluate
from spectral_reach.studies.analysis.claims.files import write_claims
from spectral_reach.studies.analysis.claims.finding import Finding
from spectral_reach.studies.analysis.claims.table import ClaimsTable
from spectral_reach.studies.analysis.verdict import Verdict

__all__ = ["Claim", "ClaimsTable", "Finding", "Verdict", "evaluate", "write_claims"]

"""Room 3: estimators of chi_net = Tr(J J^T) and of the noise-free gradient norm.

Importing a module here is what registers its estimator.
"""

from spectral_reach.estimators import batch as batch
from spectral_reach.estimators import exact as exact
from spectral_reach.estimators import per_unit as per_unit
from spectral_reach.estimators.interface import EstimatorOptions as EstimatorOptions
from spectral_reach.estimators.interface import Trace as Trace
from spectral_reach.estimators.interface import TraceEstimate as TraceEstimate
from spectral_reach.estimators.interface import check_count as check_count
from spectral_reach.estimators.interface import check_name as check_name
from spectral_reach.estimators.interface import estimate_trace as estimate_trace
from spectral_reach.estimators.interface import register as register

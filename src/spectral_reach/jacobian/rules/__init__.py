"""Layer rules: the gradient of a parameter by unit, from what an operation took and the gradient of its output.

One file a family of operations. Importing a module here is what registers its rules.
"""

from spectral_reach.jacobian.rules import broadcast as broadcast
from spectral_reach.jacobian.rules import convolution as convolution
from spectral_reach.jacobian.rules import embedding as embedding
from spectral_reach.jacobian.rules import linear as linear
from spectral_reach.jacobian.rules import normalisation as normalisation
from spectral_reach.jacobian.rules.registry import Use as Use
from spectral_reach.jacobian.rules.registry import all_rules as all_rules
from spectral_reach.jacobian.rules.registry import find_rule as find_rule
from spectral_reach.jacobian.rules.registry import layer_rule as layer_rule

"""AffinityNet's random walk and the affinities that it walks on.

The definition is in reference.py, the compiled walk in product.py, the compiled affinities in pairs.py, the same on
torch tensors in tensors.py (not imported here: it needs torch), the mathematics and the costs in README.md.
"""

from camshaft.kernels.walk.operation import affinities, walk
from camshaft.kernels.walk.stencil import half_disc

__all__ = ["affinities", "half_disc", "walk"]

"""Dense CRF mean field on the permutohedral lattice: `crf` for one image, `crf_many` for many."""

from camshaft.kernels.crf.operation import crf, crf_many
from camshaft.kernels.crf.parameters import Parameters

__all__ = ["Parameters", "crf", "crf_many"]

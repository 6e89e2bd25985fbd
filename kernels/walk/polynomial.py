"""x^t in Chebyshev polynomials of an interval [l, 1], cut off where the rest is too small to matter.

With ξ = (2 x - 1 - l) / (1 - l), which runs from -1 to 1, x is s + (1 - s) ξ, s = (1 + l) / 2. And

    x^t = E[T_|S|(ξ)],

where S is the place, after t steps, of a lazy random walk on the integers: it stays with probability s, else it goes
one up or down. For t = 1 that is s T_0 + (1 - s) T_1, and ξ T_j = (T_{j-1} + T_{j+1}) / 2 makes the next step (for
l = -1 this is the Varopoulos-Carne formula). So the coefficient of T_j is the probability that |S| = j. Without the
terms beyond n the rest is divided by its sum, so that it stays 1 at x = 1 and constant maps stay as they are; it then
differs from x^t by at most 2 P(|S| > n) ≤ 4 exp(-n² / 2t) on the interval. The degree grows with the square root of t:
256 steps need degree 64 for 9e-5 on [-1, 1], and 56 on [-1/2, 1].
"""

from functools import lru_cache

import numpy as np
from numpy.polynomial.polynomial import polypow
from numpy.typing import NDArray


def stretch(lowest: float) -> float:
    """dξ / dx = 2 / (1 - lowest), 1 for [-1, 1]: ξ = 1 + stretch (x - 1)."""
    return 2 / (1 - lowest)


@lru_cache(maxsize=32)
def power_coefficients(power: int, error: float, lowest: float = -1) -> NDArray[np.float32]:
    """c_0 … c_n, summing to 1, with |x^power - Σ c_j T_j(ξ)| ≤ error on [lowest, 1]: float32 (n + 1,), n ≥ 1.

    Args:
        power: t ≥ 0.
        error: the bound; 0 gives all t + 1 coefficients.
        lowest: l, the interval's lower end, from -1 to below 1.
    """
    moves = 1 / stretch(lowest)
    places = polypow((moves / 2, 1 - moves, moves / 2), power)  # probabilities of S = -t … t
    chances = np.zeros(max(power, 1) + 1)
    chances[: power + 1] = places[power:]
    chances[1:] *= 2
    beyond = np.append(np.cumsum(chances[:0:-1])[::-1], 0.0)
    degree = max(1, int(np.argmax(2 * beyond <= error)))
    kept = chances[: degree + 1]
    coefficients: NDArray[np.float32] = (kept / kept.sum()).astype(np.float32)
    coefficients.setflags(write=False)
    return coefficients

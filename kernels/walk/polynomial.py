"""x^t in Chebyshev polynomials, cut off where the rest is too small to matter.

x^t = E[T_|S|(x)], where S is the place of a simple random walk on the integers after t fair steps of ±1: for t = 1 that
is T_1 = x, and x T_j = (T_{j-1} + T_{j+1}) / 2 makes the next step (the Varopoulos-Carne formula). So the coefficient
of T_j is the probability that |S| = j. Without the terms beyond n the rest is divided by its sum, so that it stays 1
at x = 1 and constant maps stay as they are; it then differs from x^t by at most 2 P(|S| > n) ≤ 4 exp(-n² / 2t) on
[-1, 1]. The degree grows with the square root of t: 256 steps need degree 64 for 9e-5.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=32)
def power_coefficients(power: int, error: float) -> NDArray[np.float32]:
    """c_0 … c_n, summing to 1, with |x^power - Σ c_j T_j(x)| ≤ error on [-1, 1]: float32 (n + 1,), n ≥ 1.

    Args:
        power: t ≥ 0.
        error: the bound; 0 gives all t + 1 coefficients.
    """
    chances = np.zeros(max(power, 1) + 1)
    for j in range(power % 2, power + 1, 2):
        # exact in integers: the binomial coefficients of a long walk exceed what a float can hold
        chances[j] = math.comb(power, (power - j) // 2) * (2 if j else 1) / 2**power
    beyond = np.append(np.cumsum(chances[:0:-1])[::-1], 0.0)
    degree = max(1, int(np.argmax(2 * beyond <= error)))
    kept = chances[: degree + 1]
    coefficients: NDArray[np.float32] = (kept / kept.sum()).astype(np.float32)
    coefficients.setflags(write=False)
    return coefficients

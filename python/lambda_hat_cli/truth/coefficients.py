"""Learning coefficients that theory gives exactly, as rationals with their multiplicities."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import isqrt


@dataclass(frozen=True)
class Coefficient:
    """λ and its multiplicity m: −log Z(t) = λ log t − (m−1) log log t + O(1).

    Attributes:
        value: λ, an exact rational.
        multiplicity: m ≥ 1.
        source: the formula and where it comes from.
    """

    value: Fraction
    multiplicity: int
    source: str


def regular(d: int) -> Coefficient:
    """d/2: a positive-definite Hessian in d parameters."""
    return Coefficient(Fraction(d, 2), 1, "regular model: d/2 (Watanabe 2009)")


def quadratic(rank: int) -> Coefficient:
    """rank/2 for K = ½wᵀHw: flat directions do not count."""
    return Coefficient(Fraction(rank, 2), 1, "quadratic form: rank/2 (Laplace's integral, exact)")


def normal_crossing(exponents: Sequence[int]) -> Coefficient:
    """K = Π w_j^(2k_j): the least 1/(2k_j), and how many coordinates attain it (Watanabe 2009, theorem 4.9)."""
    poles = [Fraction(1, 2 * k) for k in exponents if k > 0]
    least = min(poles, default=Fraction(0))
    return Coefficient(least, poles.count(least), "normal crossing: min 1/(2k_j) (Watanabe 2009)")


def sum_of_powers(exponents: Sequence[int]) -> Coefficient:
    """K = Σ w_j^(2k_j): the coordinates separate, so Σ 1/(2k_j)."""
    return Coefficient(sum((Fraction(1, 2 * k) for k in exponents), Fraction(0)), 1, "sum of powers: Σ 1/(2k_j)")


def radial(d: int, exponent: int) -> Coefficient:
    """K = ‖w‖^(2k) in d dimensions: d/(2k), from polar coordinates."""
    return Coefficient(Fraction(d, 2 * exponent), 1, "radial power: d/(2k)")


def tanh_zero_truth(units: int) -> Coefficient:
    """One tanh hidden layer, one input, one output, against the zero function (Aoyagi & Watanabe 2006)."""
    i = isqrt(units)
    value = Fraction(units + i * i + i, 4 * i + 2)
    return Coefficient(value, 2 if i * i == units else 1, "one tanh hidden layer, zero truth (Aoyagi & Watanabe 2006)")


def reduced_rank_regression(outputs: int, inputs: int, hidden: int, rank: int) -> Coefficient:
    """The model y = BAx with A: hidden × inputs and B: outputs × hidden, true product of rank `rank`.

    Aoyagi & Watanabe 2005 (Neural Networks 18:924), main theorem.

    Raises:
        ValueError: when the rank exceeds a width.
    """
    N, M, H, r = outputs, inputs, hidden, rank
    if not 0 <= r <= min(N, M, H):
        raise ValueError(f"rank {r} must be from 0 to the smallest width {min(N, M, H)}")
    source = "reduced-rank regression (Aoyagi & Watanabe 2005)"
    if N + r > M + H:
        return Coefficient(Fraction(H * M - H * r + N * r, 2), 1, source)
    if M + r > N + H:
        return Coefficient(Fraction(H * N - H * r + M * r, 2), 1, source)
    if H + r > M + N:
        return Coefficient(Fraction(M * N, 2), 1, source)
    s = -((H + r) ** 2) - M * M - N * N + 2 * (H + r) * (M + N) + 2 * M * N
    odd = (M + N + H + r) % 2
    return Coefficient(Fraction(s + odd, 8), 1 + odd, source)


def reduced_rank_stratum(
    outputs: int, inputs: int, hidden: int, rank: int, first_rank: int, second_rank: int
) -> Coefficient:
    """The coefficient at a point where A has rank `first_rank` and B `second_rank`, their product `rank`.

    The regular directions split off and leave reduced-rank regression at zero truth on what remains.

    Raises:
        ValueError: when no such point exists.
    """
    N, M, H, r, a, b = outputs, inputs, hidden, rank, first_rank, second_rank
    if not (r <= min(a, b) and a <= min(H, M) and b <= min(H, N) and a + b - r <= H and r >= 0):
        raise ValueError(f"no matrices of ranks {a} and {b} have a product of rank {r} with widths {M}, {H}, {N}")
    left = (N - b, M - a, H - a - b + r)
    rest = reduced_rank_regression(*left, 0) if min(left) > 0 else Coefficient(Fraction(0), 1, "")
    value = Fraction(N * a + M * b - a * b, 2) + rest.value
    return Coefficient(value, rest.multiplicity, "reduced-rank regression at a given stratum (Aoyagi & Watanabe 2005)")


def deep_linear(widths: Sequence[int], rank: int) -> Coefficient:
    """Product of matrices with widths H_0..H_L, a true product of rank `rank`.

    Aoyagi 2024, Neural Networks 172:106132.

    Raises:
        ValueError: for fewer than two widths, or a rank that exceeds one.
    """
    if len(widths) < 2 or not 0 <= rank <= min(widths):
        raise ValueError(f"rank {rank} must be from 0 to the smallest of at least two widths, got {list(widths)}")
    source = "deep linear network (Aoyagi 2024)"
    base = Fraction(rank * (widths[0] + widths[-1]) - rank * rank, 2)
    excess = sorted(width - rank for width in widths)
    if len(widths) == 2:
        return Coefficient(base + Fraction(excess[0] * excess[1], 2), 1, source)
    count = _participating(excess)
    chosen, ell = excess[:count], count - 1
    total = sum(chosen)
    a = total - (-(-total // ell) - 1) * ell
    pairs = sum(x * y for x, y in combinations(chosen, 2))
    value = base + Fraction(a * (ell - a), 4 * ell) - Fraction(ell - 1, 4 * ell) * total**2 + Fraction(pairs, 2)
    return Coefficient(value, a * (ell - a) + 1, source)


def _participating(excess: Sequence[int]) -> int:
    """How many of the sorted excess widths take part in the most singular chart."""
    for count in range(2, len(excess)):
        total, ell = sum(excess[:count]), count - 1
        following = excess[count]
        if total >= ell * excess[count - 1] and excess[count - 1] < following and total < ell * following:
            return count
    return len(excess)

"""Continuity of a decoder: how smoothly, how evenly and with how few cliffs outputs follow codes."""

from dataclasses import dataclass

import numpy as np

from gapless.audit.laws import Law
from gapless.audit.measure import Measure, interval, jackknife, not_applicable, resamples
from gapless.audit.subject import Probe
from gapless.errors import UsageError

__all__ = ["Cliff", "Smoothness", "evenness", "jump_profile", "smoothness"]

LAGS = (1, 2, 4, 8, 16)
HALVINGS = 12
EXAMINED = 48
SHOWN = 12
FAR = 64
KEPT = 0.25
DIGITS = 9  # outputs are float32: what comes later is rounding, and must not make two models differ
ULPS = 16 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Cliff:
    """A place where the output jumps.

    Attributes:
        left: code on one side, shape (d,).
        right: code on the other side, at the width below, shape (d,).
        size: |phi(right) - phi(left)| after bisection, in units of the median change of an unrelated redraw.
        width: distance of the two sides as an angle of the loop, radians in the law's own noise; about 2.4e-5.
        jump: True where at least a quarter of the change of the whole step is left after bisection (several jumps may
            share a step); False for a slope that was only steep.
    """

    left: np.ndarray
    right: np.ndarray
    size: float
    width: float
    jump: bool


@dataclass(frozen=True)
class Smoothness:
    """How much outputs change along loops of the reference law.

    Attributes:
        smoothness: C at lag 1; n is the number of loops, those drawn far out among them.
        curve: lag -> (theta in radians, C, low, high), C as it was estimated, not cut at 1.
        cliff_free: share of loop steps whose change does not exceed half the median change of an unrelated redraw; n
            counts steps, the interval and the replicates resample loops.
        cliffs: the largest, at most 12, bisected, largest first.
        redraw: the median change of phi under an unrelated redraw; 0 for a constant decoder.
    """

    smoothness: Measure
    curve: dict[int, tuple[float, float, float, float]]
    cliff_free: Measure
    cliffs: tuple[Cliff, ...]
    redraw: float


@dataclass(frozen=True)
class _Loops:
    """What C needs of each loop: all its estimates are sums of these over loops.

    part (n,): which part of the law; weight (n,): how much a loop counts; mean (n, k): of phi; square (n,): mean
    |phi|^2; change: lag -> (n,) of 1/2 mean |phi - phi'|^2.
    """

    part: np.ndarray
    weight: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    change: dict[int, np.ndarray]


def smoothness(
    probe: Probe, law: Law, *, rng: np.random.Generator, seed: int, loops: int | None = None, points: int = 64
) -> Smoothness:
    """Smoothness C on loops of the law, and the cliffs met on the way.

    `C(theta) = (1 - rho) Var g / (1/2 E|g(z) - g(z')|^2)`, g = phi(decode), z and z' on a loop at angle theta, rho =
    cos theta. For a Gaussian law C <= 1, with equality only for an affine decoder (Gaussian Poincaré inequality;
    Chernoff 1981). Every law states its rho (`Law.correlation`), so that a decoder linear in the law's noise has
    C = 1. Under a mixture loops stay within a component and so does Var: steps between components are not judged.

    A quarter as many loops again are drawn far out and weighted down (`Law.loops_and_tail`): where the output is steep
    there, ordinary loops miss what carries the mean, and their interval the truth.

    Args:
        probe: the decoder and phi.
        law: reference law.
        rng: draws the loops.
        seed: of the bootstrap.
        loops: how many; None for 128, or 512 in one and two dimensions. A quarter as many, at most 64, come from far
            out besides; cliffs are counted without them.
        points: points a loop.

    Returns:
        C at the finest angle with a jackknife interval over loops (on log C), its curve, and the cliffs. A decoder that
        is constant up to float32 rounding has no continuity: n/a.

    Raises:
        UsageError: fewer than 8 loops or 4 points.
    """
    loops = loops or (512 if law.dimension <= 2 else 128)
    if loops < 8 or points < 4:
        raise UsageError(f"smoothness needs at least 8 loops of 4 points; got {loops} of {points}")
    codes, part, weight = law.loops_and_tail(loops, min(loops // 4, FAR), points, rng)
    everywhere = probe.phi(codes.reshape(-1, codes.shape[2])).reshape(len(codes), points, -1)
    codes, g = codes[:loops], everywhere[:loops]
    noise = _rounding(g)
    if _still(g.reshape(1, loops * points, -1), noise)[0]:
        same = not_applicable(
            f"The decoder gives the same output for every code of {law.name}: no continuity to ask for."
        )
        return Smoothness(same, {}, same, (), 0.0)
    found = _summarise(everywhere, part, weight, [lag for lag in LAGS if lag <= points // 2], closed=law.closed)
    redraw = _redraw(g, floor=float(np.sqrt(np.square(noise).sum())))
    steps = np.linalg.norm(np.roll(g, -1, axis=1) - g, axis=2)
    curve = {lag: (_angle(law, lag, points), *_with_interval(found, law, lag, points)) for lag in found.change}
    return Smoothness(
        _headline(found, law, points, plain=loops, seed=seed),
        curve,
        _cliff_free(steps > redraw / 2, law, seed=seed),
        _cliffs(probe, law, codes, steps, redraw) if law.closed else (),
        redraw,
    )


def _rounding(g: np.ndarray) -> np.ndarray:
    """How far each feature of (..., k) may stray by float32 rounding alone: 16 ulp of its size or the typical one's."""
    size = np.abs(g).reshape(-1, g.shape[-1]).max(0)
    return ULPS * np.maximum(size, np.median(size))


def _still(paths: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Which paths (n, points, k) stay at one output up to rounding: shape (n,)."""
    return (np.ptp(paths, axis=1) <= noise).all(-1)


def _summarise(g: np.ndarray, part: np.ndarray, weight: np.ndarray, lags: list[int], *, closed: bool) -> _Loops:
    """Sufficient statistics of loops (n, points, k); phi is centred first, which C does not see and rounding does."""
    g = g - g.mean((0, 1))
    change = {}
    for lag in lags:
        step = np.roll(g, -lag, axis=1) - g if closed else g[:, lag:] - g[:, :-lag]
        change[lag] = np.einsum("ntk,ntk->n", step, step) / (2 * step.shape[1])
    return _Loops(part, weight, g.mean(1), np.einsum("ntk,ntk->n", g, g) / g.shape[1], change)


def _ratio(found: _Loops, lag: int, weights: np.ndarray) -> np.ndarray:
    """Var g / (1/2 E|g - g'|^2) under rows of loop weights (rows, n), within the parts of the law: shape (rows,).

    Var is the mean variance within a loop, plus the U-statistic of `|mean_l - mean_m|^2 / 2` over pairs of different
    loops of a part (Hoeffding 1948); weights w_l w_m leave a loop drawn twice unpaired with itself. Rows where no part
    has two loops, or where nothing changes, are nan.
    """
    weights = weights * found.weight
    variance, change = np.zeros(len(weights)), np.zeros(len(weights))
    for part in np.unique(found.part):
        rows = found.part == part
        w, mean, size = weights[:, rows], found.mean[rows], np.square(found.mean[rows]).sum(1)
        count = w.sum(1)
        pairs = count**2 - np.square(w).sum(1)
        usable = pairs > 1e-9
        between = (count * (w @ size) - np.square(w @ mean).sum(1)) / np.where(usable, pairs, 1)
        variance += np.where(usable, w @ (found.square[rows] - size) + count * between, 0)
        change += np.where(usable, w @ found.change[lag][rows], 0)
    usable = (change > 0) & (variance > 0)
    return np.where(usable, variance / np.where(usable, change, 1), np.nan)


def _with_interval(found: _Loops, law: Law, lag: int, points: int) -> tuple[float, float, float]:
    """(C, low, high) at one lag: jackknife over loops on log C; (0, inf) where one loop carries all the change."""
    loops = len(found.part)
    scale = 1 - law.correlation(lag, points)
    value = float(scale * _ratio(found, lag, np.ones((1, loops)))[0])
    left_out = scale * _ratio(found, lag, 1 - np.eye(loops))
    if not np.isfinite(left_out).all():
        return value, 0.0, float("inf")
    low, high = jackknife(np.log(left_out), full=float(np.log(value)))
    return value, float(np.exp(low)), float(np.exp(high))


def _headline(found: _Loops, law: Law, points: int, *, plain: int, seed: int) -> Measure:
    """C at lag 1 as a Measure, cut at 1."""
    loops = len(found.part)
    value, low, high = (round(x, DIGITS) for x in _with_interval(found, law, 1, points))
    if not np.isfinite(value):
        return not_applicable(f"Outputs do not change along any loop of {law.name}: no continuity to ask for.", loops)
    drawn = np.stack([np.bincount(row, minlength=loops) for row in resamples(loops, seed=seed)]).astype(float)
    replicates = ((1 - law.correlation(1, points)) * _ratio(found, 1, drawn)).round(DIGITS)
    nudge = 100 * np.sqrt(max(0.0, 1 - law.correlation(1, points) ** 2))
    tail = f", {loops - plain} of them from far out" if loops > plain else ""
    reading = (
        f"A {nudge:.0f} % nudge changes the output {1 / value:.3g} times more (mean square) than for the smoothest "
        f"decoder of equal variety, over {loops} loops of {law.name}{tail}"
    )
    if found.part.max() > 0:
        reading += "; each loop stays within one part of that law, so changes between parts are not judged"
    return Measure(
        min(value, 1.0), min(low, 1.0), min(high, 1.0), loops, reading + ".",
        raw=value if value > 1 else None, replicates=np.where(np.isnan(replicates), value, replicates),
    )  # fmt: skip


def _angle(law: Law, lag: int, points: int) -> float:
    """The angle theta with cos theta = correlation of the law's noise, radians."""
    return float(np.arccos(np.clip(law.correlation(lag, points), -1, 1)))


def _redraw(g: np.ndarray, *, floor: float) -> float:
    """Median |g - g'| over points of different loops; their root mean square where most redraws change nothing."""
    thin = g[:, :: max(1, g.shape[1] // 16)]
    shifts = np.unique(np.linspace(1, (len(g) - 1) // 2, 8).astype(int))
    far = np.concatenate([np.linalg.norm(np.roll(thin, s, axis=0) - thin, axis=2).ravel() for s in shifts])
    median = float(np.median(far))
    return median if median > floor else float(np.sqrt(np.square(far).mean()))


def _cliff_free(cliff: np.ndarray, law: Law, *, seed: int) -> Measure:
    """Share of steps that are no cliffs, from cliffs (loops, points), resampled by loops.

    Few loops with a cliff leave a bootstrap blind, so its low end is at most the one of Clopper & Pearson (1934) for
    loops that meet a cliff, each with as many cliff steps as those that did. Where none did, the bound on loops is the
    exact one-sided 1 - 0.05^(1/loops) (rule of three) and two steps are charged: a closed curve crosses a wall twice.
    """
    if not law.closed:
        return not_applicable(f"Codes of {law.name} are discrete: a jump cannot be told from a step.", cliff.size)
    loops, points = cliff.shape
    share = cliff.mean(1)
    replicates = 1 - share[resamples(loops, seed=seed)].mean(1)
    met = int((share > 0).sum())
    bound = _most_loops(met, loops)
    low, high = interval(replicates) if met else (1.0, 1.0)
    low = max(0.0, min(low, 1 - bound * (share[share > 0].mean() if met else 2 / points)))
    step = f"steps of {_angle(law, 1, points):.2g} rad on {loops} loops of {law.name}"
    reading = f"None of {cliff.size} {step} changes the output by more than half an unrelated redraw; "
    reading += f"with 95 % confidence at most {bound:.1%} of loops meet such a step."
    if met:
        reading = (
            f"{int(cliff.sum())} of {cliff.size} {step} change the output by more than half an unrelated redraw; "
            f"{met} of the loops meet one."
        )
    return Measure(float(1 - share.mean()), float(low), high, cliff.size, reading, replicates=replicates)


def _most_loops(met: int, loops: int) -> float:
    """Upper 95 % bound on the share of loops that meet a cliff, from how many did."""
    if met == 0:
        return 1 - 0.05 ** (1 / loops)
    from scipy.stats import beta

    return 1.0 if met == loops else float(beta.ppf(0.975, met + 1, loops - met))


def _cliffs(probe: Probe, law: Law, codes: np.ndarray, steps: np.ndarray, redraw: float) -> tuple[Cliff, ...]:
    """The largest steps over half a redraw, bisected; the 12 that are largest afterwards."""
    largest = np.argsort(-steps, axis=None, kind="stable")[:EXAMINED]
    largest = largest[steps.ravel()[largest] > redraw / 2]
    if not len(largest):
        return ()
    loop, step = np.unravel_index(largest, steps.shape)
    points = steps.shape[1]
    left, right, size = _bisect(probe, law, codes[loop, step], codes[loop, (step + 1) % points])
    width = _angle(law, 1, points) / 2**HALVINGS
    kept = size >= KEPT * steps[loop, step]
    order = np.argsort(-size, kind="stable")[:SHOWN]
    return tuple(Cliff(left[i], right[i], float(size[i] / redraw), width, bool(kept[i])) for i in order)


def _bisect(probe: Probe, law: Law, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Halve segments (n, d) to (n, d), each time keeping the half over which phi changes more: both sides, size (n,).

    The law interpolates between neighbours of a loop: the chord of a circle, 0.1 % inside it.
    """
    g_left, g_right = np.split(probe.phi(np.concatenate([left, right])), 2)
    for _ in range(HALVINGS):
        middle = law.interpolate(left, right, 3)[:, 1]
        g_middle = probe.phi(middle)
        first = np.linalg.norm(g_middle - g_left, axis=1) >= np.linalg.norm(g_right - g_middle, axis=1)
        first = first[:, None]
        left, right = np.where(first, left, middle), np.where(first, middle, right)
        g_left, g_right = np.where(first, g_left, g_middle), np.where(first, g_middle, g_right)
    return left, right, np.linalg.norm(g_right - g_left, axis=1)


def evenness(
    probe: Probe,
    law: Law,
    codes: np.ndarray,
    *,
    rng: np.random.Generator,
    seed: int,
    pairs: int = 400,
    steps: int = 32,
) -> Measure:
    """Evenness of speed between the codes of two items: `(sum s_t)^2 / (T sum s_t^2)`, mean over disjoint pairs.

    s_t is the change of phi over step t of T on the law's segment (straight; a great circle on the sphere). 1 is
    constant speed, 1 / T a single jump; 1 / evenness - 1 is the squared coefficient of variation of the speed.

    Args:
        probe: the decoder and phi.
        law: gives the segments.
        codes: codes of items, shape (n, d).
        rng: draws the pairs.
        seed: of the bootstrap over pairs.
        pairs: at most this many disjoint pairs.
        steps: T.

    Returns:
        The mean over pairs with a bootstrap interval. Pairs of equal codes, or whose output does not change beyond
        rounding, are left out and counted; fewer than 2 left: n/a. Replicates resample all pairs, so that two models
        stay paired where different pairs are left out.
    """
    if not law.closed:
        return not_applicable(f"Codes of {law.name} are discrete: there is nothing between two of them.")
    pairs = min(pairs, len(codes) // 2)
    start, end = codes[rng.permutation(len(codes))[: 2 * pairs]].reshape(2, pairs, codes.shape[1])
    if pairs < 2:
        return not_applicable(f"Evenness needs 4 codes; there are {len(codes)}.", pairs)
    even = _segment_evenness(probe, law, start, end, steps)
    used = ~np.isnan(even)
    count, dropped = int(used.sum()), int((~used).sum())
    why = f"{dropped} of {pairs} pairs had equal codes or equal outputs and were left out"
    if count < 2:
        return not_applicable(f"Too few segments to judge: {why}.", count)
    value = float(even[used].mean())
    drawn = resamples(pairs, seed=seed)
    totals, counts = np.where(used, even, 0)[drawn].sum(1), used[drawn].sum(1)
    replicates = np.where(counts > 0, totals / np.maximum(counts, 1), value)
    low, high = interval(replicates)
    reading = f"Between two items the speed of the output varies by {np.sqrt(max(0.0, 1 / value - 1)):.0%} of its mean"
    reading += f" ({count} segments of {steps} steps; 1 is constant speed, {1 / steps:.3g} a single jump)"
    return Measure(value, low, high, count, f"{reading}; {why}." if dropped else f"{reading}.", replicates=replicates)


def _segment_evenness(probe: Probe, law: Law, start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Evenness of each segment (n, d) to (n, d), nan for those of zero length: shape (n,)."""
    path = law.interpolate(start, end, steps + 1)
    g = probe.phi(path.reshape(-1, path.shape[2])).reshape(len(start), steps + 1, -1)
    s = np.linalg.norm(np.diff(g, axis=1), axis=2)
    still = _still(g, _rounding(g)) | (start == end).all(1)
    even = s.sum(1) ** 2 / np.where(still, 1, steps * np.square(s).sum(1))
    return np.where(still, np.nan, even.round(DIGITS))


def jump_profile(probe: Probe, law: Law, start: np.ndarray, end: np.ndarray, *, steps: int = 64) -> np.ndarray:
    """Change of phi over each step of the segment between two codes, shape (steps,).

    Args:
        probe: the decoder and phi.
        law: gives the segment.
        start: code, shape (d,).
        end: code, shape (d,).
        steps: how many.
    """
    g = probe.phi(law.interpolate(start[None], end[None], steps + 1)[0])
    return np.linalg.norm(np.diff(g, axis=0), axis=1)

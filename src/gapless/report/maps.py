"""Figures: the latent map with rings and ellipses, the KL of each latent feature, the course of training."""

import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

__all__ = [
    "PALETTE", "TITLES", "curve_figure", "dimension_figure", "field_map", "frame_of", "jump_figure", "kl_figure",
    "latent_map", "training_figure",
]  # fmt: skip

# Paul Tol's muted scheme, told apart by colour-blind readers; the tenth is a dark grey.
PALETTE = (
    "#332288", "#CC6677", "#117733", "#88CCEE", "#DDCC77", "#AA4499", "#44AA99", "#882255", "#999933", "#555555",
)  # fmt: skip
GREY, RING = "#8a8f98", "#1b1f24"
RINGS = (1, 2, 3)
TITLES = {"ae": "AE", "kl-only": "KL only", "vae": "VAE", "ppca": "pPCA", "collapsed": "collapsed null"}


def frame_of(loc: np.ndarray) -> float:
    """Half the side of the square map: at least the rings, and the central 99 % of the codes with a margin."""
    reach = float(np.quantile(np.abs(loc), 0.995, axis=0).max()) if len(loc) else 0.0
    return max(3.4, 1.12 * reach)


def latent_map(
    loc: np.ndarray, scale: np.ndarray, *, labels: np.ndarray | None, names: Sequence[str], axes: Sequence[int]
) -> bytes:
    """Codes, 150 two-sigma ellipses and the rings of N(0, I) at 1, 2 and 3 standard deviations, as a PNG.

    Args:
        loc: means of q(z|x) on two axes, shape (n, 2).
        scale: standard deviations on the same axes, shape (n, 2); 0 draws no ellipse.
        labels: class of each item, or None.
        names: names of the classes.
        axes: which latent features these are.
    """
    from matplotlib.collections import EllipseCollection
    from matplotlib.patches import Circle
    from matplotlib.patheffects import withStroke

    figure, axis = _figure(4.6, 4.6, layout=None)
    figure.subplots_adjust(left=0.115, right=0.985, bottom=0.105, top=0.985)
    half = frame_of(loc)
    colours = np.array([PALETTE[label % len(PALETTE)] for label in labels]) if labels is not None else "#332288"
    size = float(np.clip(15000 / max(len(loc), 1), 2, 22))
    few = np.random.default_rng(0).permutation(len(loc))[:150]
    if scale[few].max(initial=0) > 0:
        ellipses = EllipseCollection(
            4 * scale[few, 0], 4 * scale[few, 1], np.zeros(len(few)), units="xy", offsets=loc[few],
            offset_transform=axis.transData, facecolors="none", linewidths=0.6, alpha=0.4,
            edgecolors=colours[few] if labels is not None else colours,
        )  # fmt: skip
        axis.add_collection(ellipses)
    axis.scatter(loc[:, 0], loc[:, 1], s=size, c=colours, alpha=0.75, linewidths=0, rasterized=True)
    for radius in RINGS:
        axis.add_patch(Circle((0, 0), radius, fill=False, edgecolor="white", linewidth=2.2, alpha=0.8, zorder=3))
        axis.add_patch(
            Circle((0, 0), radius, fill=False, edgecolor=RING, linewidth=1.1, linestyle=(0, (4, 2.5)), zorder=4)
        )
    halo = [withStroke(linewidth=3, foreground="white")]
    axis.annotate("N(0, I)", (0, 3), ha="center", va="bottom", fontsize=8, color=RING, zorder=5, path_effects=halo)
    if np.abs(loc).max() < 0.1 * half / 3:
        axis.annotate(
            f"all {len(loc):,} codes are here", (0, -0.3), ha="center", fontsize=9, path_effects=halo, zorder=5
        )
        axis.annotate("and every cloud is this ring", (0, -2.1), ha="center", va="top", fontsize=9)
    elif labels is not None and len(names) <= 20:
        _name_classes(axis, loc, labels, names)
    axis.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
    axis.set_xlabel(f"latent feature {axes[0]}")
    axis.set_ylabel(f"latent feature {axes[1]}" if axes[1] != axes[0] else "")
    return _png(figure)


def _name_classes(axis: Any, loc: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> None:
    from matplotlib.patheffects import withStroke

    for code, name in enumerate(names):
        if (mine := loc[labels == code]).size:
            x, y = np.median(mine, axis=0)
            axis.text(
                x, y, name[:14], ha="center", va="center", fontsize=10, fontweight="bold", color="black",
                path_effects=[withStroke(linewidth=3, foreground="white")], clip_on=True,
            )  # fmt: skip


def kl_figure(kl: dict[str, Sequence[float] | None], live_above: float) -> bytes:
    """Bars of the mean KL of each latent feature in nats, one panel a model, as a PNG.

    Args:
        kl: model name -> KL of each latent feature, highest first; None where it is infinite.
        live_above: a line at this many nats.
    """
    figure, axes = _figure(10, 2.3, panels=len(kl))
    top = max([value for values in kl.values() if values for value in values], default=1.0) * 1.15 + 0.05
    for axis, (name, values) in zip(np.atleast_1d(axes), kl.items(), strict=True):
        axis.set_title(name, fontsize=10)
        axis.set_ylim(0, top)
        axis.set_xlabel("latent features, most used first")
        if values is None:
            axis.text(0.5, 0.5, "infinite: a point has no density", transform=axis.transAxes, ha="center", color=GREY)
            axis.set_xticks([])
            continue
        bars = [PALETTE[6] if value > live_above else "#c8ccd2" for value in values]
        axis.bar(np.arange(len(values)), values, color=bars, width=0.8)
        axis.set_xticks([])
    np.atleast_1d(axes)[0].set_ylabel("KL (nats)")
    return _png(figure)


def training_figure(histories: dict[str, list[dict[str, Any]]]) -> bytes:
    """The trained objective of each model by epoch, training and held-out, as a PNG."""
    figure, axes = _figure(10, 2.6, panels=len(histories))
    for axis, (name, history) in zip(np.atleast_1d(axes), histories.items(), strict=True):
        epochs = [line["epoch"] for line in history]
        axis.plot(epochs, [line["train"]["loss"] for line in history], color=PALETTE[3], label="training")
        axis.plot(epochs, [line["held_out"]["loss"] for line in history], color=PALETTE[0], label="held out")
        late = [line["held_out"]["loss"] for line in history] + [line["train"]["loss"] for line in history[1:]]
        low, high = min(late), max(np.quantile(late, 0.97), min(late) + 1e-9)
        axis.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("epoch")
    np.atleast_1d(axes)[0].set_ylabel("trained loss (nats)")
    np.atleast_1d(axes)[0].legend(frameon=False, fontsize=8)
    return _png(figure)


def field_map(
    values: np.ndarray,
    half: float,
    *,
    axes: Sequence[int],
    marks: Sequence[tuple[np.ndarray, str]],
    label: str,
    signed: bool,
    limits: tuple[float, float] = (-2, 2),
) -> bytes:
    """A field over the frame of a latent map with the rings and numbered marks, as a PNG.

    Args:
        values: shape (rows, columns), bottom row first; not a number is left white.
        half: half the side of the frame.
        axes: which latent features these are.
        marks: places (2,) and what to write there.
        label: what the colours mean.
        signed: colours around 0 (red below) instead of from dark to bright.
        limits: values of the first and the last colour.
    """
    from matplotlib.patches import Circle
    from matplotlib.patheffects import withStroke

    figure, axis = _figure(4.6, 4.25, layout="constrained")
    picture = axis.imshow(
        values, extent=(-half, half, -half, half), origin="lower", cmap="RdBu" if signed else "magma",
        interpolation="bilinear", vmin=limits[0], vmax=limits[1],
    )  # fmt: skip
    edge = {"edgecolor": RING if signed else "white", "linewidth": 0.9, "alpha": 0.8}
    for radius in RINGS:
        axis.add_patch(Circle((0, 0), radius, fill=False, **edge))
    for place, text in marks:
        if np.abs(place).max() < half:
            halo = [withStroke(linewidth=3, foreground="white")]
            axis.annotate(text, place, ha="center", va="center", fontsize=12, fontweight="bold", path_effects=halo)
    bar = figure.colorbar(picture, ax=axis, shrink=0.86, pad=0.02)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    axis.set(aspect="equal", xlim=(-half, half), ylim=(-half, half))
    axis.set_xlabel(f"latent feature {axes[0]}")
    return _png(figure)


def curve_figure(curves: dict[str, dict[str, Sequence[float]]]) -> bytes:
    """C(theta) of each card with its 95 % band, as a PNG."""
    figure, axis = _figure(5.2, 3.1)
    for number, (name, curve) in enumerate(curves.items()):
        points = np.array([point for point in curve.values() if point[1] is not None], float).reshape(-1, 4)
        if len(points):
            colour, angle = PALETTE[(0, 1, 2, 9, 8)[number % 5]], np.degrees(points[:, 0])
            axis.plot(angle, points[:, 1], "o-", color=colour, markersize=3, label=title_of(name))
            axis.fill_between(angle, points[:, 2], points[:, 3], color=colour, alpha=0.15, linewidth=0)
    axis.set(xlabel="nudge: angle on a loop of the law (degrees)", ylabel="smoothness C", ylim=(0, 1.05))
    axis.legend(frameon=False, fontsize=8)
    return _png(figure)


def jump_figure(profiles: dict[str, np.ndarray]) -> bytes:
    """How the output changes step by step between the same two items, one panel a model, as a PNG."""
    figure, axes = _figure(10, 1.9, panels=len(profiles))
    for axis, (name, steps) in zip(np.atleast_1d(axes), profiles.items(), strict=True):
        share = steps / steps.sum() * len(steps) if steps.sum() > 0 else steps
        axis.bar(np.arange(len(steps)), share, color=PALETTE[0], width=1.0)
        axis.axhline(1, color=GREY, linewidth=0.8)
        axis.set_title(title_of(name), fontsize=10)
        axis.set_xticks([])
        axis.set_xlabel("the way from one item to the other")
    np.atleast_1d(axes)[0].set_ylabel("change / mean change")
    return _png(figure)


def dimension_figure(features: dict[str, Sequence[dict[str, Any]]]) -> bytes:
    """Encoder's reliability (up) against decoder's use (down) of each latent feature, as a PNG."""
    figure, axes = _figure(10, 2.6, panels=len(features))
    colours = {"live": PALETTE[6], "ignored": PALETTE[4], "noise": PALETTE[1], "dead": "#c8ccd2"}
    for axis, (name, listed) in zip(np.atleast_1d(axes), features.items(), strict=True):
        order = sorted(range(len(listed)), key=lambda j: -(listed[j]["reliability"] + (listed[j]["sobol"] or 0)))
        shades = [colours[listed[j]["state"]] for j in order]
        axis.bar(range(len(order)), [listed[j]["reliability"] for j in order], color=shades, width=0.8)
        axis.bar(range(len(order)), [-(listed[j]["sobol"] or 0) for j in order], color=shades, width=0.8, alpha=0.6)
        axis.axhline(0, color=RING, linewidth=0.8)
        axis.set(ylim=(-1.1, 1.1), title=title_of(name))
        axis.set_xticks([])
        axis.set_xlabel("latent features")
    np.atleast_1d(axes)[0].set_ylabel("use by decoder | reliability")
    return _png(figure)


def title_of(name: str) -> str:
    """How a model is called in the report."""
    return TITLES.get(name, name)


def _figure(
    width: float, height: float, *, panels: int = 1, layout: Literal["constrained"] | None = "constrained"
) -> tuple[Any, Any]:
    # The object interface: no backend is chosen and no global figure list grows.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    axes = figure.subplots(1, panels)
    for axis in np.atleast_1d(axes):
        axis.tick_params(labelsize=8, colors="#444", length=2)
        axis.xaxis.label.set_size(9)
        axis.yaxis.label.set_size(9)
        for side in ("top", "right"):
            axis.spines[side].set_visible(panels == 1)
        for spine in axis.spines.values():
            spine.set_color("#c8ccd2")
    return figure, axes


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()

"""How quickly the explorer answers in Chromium without a GPU; arguments: run folders, else it trains on the digits."""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import gapless
from gapless.explorer.export import write_page
from gapless.explorer.scene import Scene
from gapless.settings import Settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/explorer"))
from browsing import Visit, browser, chromium

MOVES = 150


def spread(values):
    """Median and 95th percentile."""
    return f"median {np.median(values):.1f}, 95th percentile {np.percentile(values, 95):.1f} ms (n = {len(values)})"


def crowd(points: int) -> Scene:
    """One panel with many codes of 2 x 2 pictures, decoded by a lattice: only the drawing counts."""
    draws, side = np.random.default_rng(0), 24
    labels = draws.integers(0, 10, points)
    angle = 2 * np.pi * labels / 10
    loc = 1.6 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.35 * draws.normal(size=(points, 2))
    panel = {
        "name": "vae", "title": "VAE", "latent": 2, "loc": "vae.loc", "scale": None,
        "error": None, "kl": None, "kl_per_feature": None, "live": [True, True], "order": [0, 1],
        "prior": {"kind": "standard_normal"}, "card": None, "law": None,
        "planes": [{"name": "features 0 and 1", "origin": [0, 0], "u": [1, 0], "v": [0, 1], "half": 3.4}],
        "decoder": {"rung": "lattice", "plane": 0, "side": side, "values": "vae.lattice"}, "holes": [], "cliffs": [],
        "effective_beta": 1.0,
    }  # fmt: skip
    document = {
        "version": 1, "gapless": gapless.__version__, "title": f"{points:,} points", "created": "", "kind": "image",
        "event_shape": [1, 2, 2], "columns": [], "columns_range": [], "scaling": {"shift": [0], "scale": [1]},
        "display": {"low": 0, "high": 1}, "label_names": [str(k) for k in range(10)], "panels": [panel],
        "items": {"count": points, "labels": "items.labels", "values": "items.values", "held_out": None},
    }  # fmt: skip
    blobs = {
        "items.labels": labels.astype("<i2").tobytes(), "items.values": bytes(4 * points),
        "vae.loc": loc.astype("<f4").tobytes(), "vae.lattice": bytes(side * side * 4),
    }  # fmt: skip
    return Scene(document, blobs)


def latency(one: Visit) -> None:
    """The pointer wanders over the last map; every panel decodes and paints."""
    k = len(one.state()["panels"]) - 1
    for step in range(MOVES):
        turn = 2 * np.pi * step / MOVES
        one.page.mouse.move(*one.at(k, 1.8 * np.cos(turn), 1.8 * np.sin(3 * turn)))
    state = one.state()
    print(f"move to painted, {k + 1} panels: {spread(state['moved_to_painted_ms'][5:])}; goal 16 ms at the 95th")
    print(f"  from the input's own time stamp: {spread(state['input_to_painted_ms'][5:])}")


def frames(open_page, folder: Path, points: int, goal: int) -> None:
    """The wheel zooms in and out; whole redraws and the first parts shown while moving."""
    path = folder / f"{points}.html"
    write_page(crowd(points), path)
    one = open_page(path)
    one.page.mouse.move(*one.at(0, 0.2, 0.1))
    for step in range(24):
        one.page.mouse.wheel(0, 120 if step % 4 < 2 else -120)
        one.page.wait_for_timeout(250)
    told = one.state()["frames"]
    whole = [frame["ms"] for frame in told if frame["shown"] == frame["count"]]
    moving = [frame["ms"] for frame in told if frame["shown"] < frame["count"]]
    print(f"frame of {points:,} points: {spread(whole)}; goal {goal} ms")
    if moving:
        print(f"  while moving, a first part: {spread(moving)}")
    one.context.close()


def digits_page(folder: Path, runs: list[str]) -> Path:
    what = runs or gapless.compare(gapless.read("digits"), settings=Settings(latent=2))
    return gapless.explorer.explore(what).save(folder / "digits.html")


def main(runs: list[str]) -> None:
    path, reason = chromium()
    if reason:
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as name, browser() as chrome:
        folder = Path(name)
        page = digits_page(folder, runs)
        print(f"{path} {chrome.version}, load {Path('/proc/loadavg').read_text()[:14]}")
        print(f"file of the digits: {page.stat().st_size / 1e6:.2f} MB; goal under 6 MB")
        ready = []
        for _ in range(5):
            began, one = time.perf_counter(), Visit(chrome, page.as_uri())
            ready.append([one.state()["ready_ms"] / 1000, time.perf_counter() - began])
            one.context.close()
        inside, outside = np.median(ready, 0)
        print(f"open to ready: median {inside:.2f} s in the page, {outside:.2f} s from outside (n = 5); goal 2 s")
        latency(Visit(chrome, page.as_uri()))
        for points, goal in ((100_000, 33), (1_000_000, 100)):
            frames(lambda path: Visit(chrome, path.as_uri()), folder, points, goal)


if __name__ == "__main__":
    main(sys.argv[1:])

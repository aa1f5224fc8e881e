"""The picture of the explorer in the README: picture.py STUDY [OUT.png], after `gapless demo -o STUDY`."""

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import gapless

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/explorer"))
from browsing import ROOT, Visit, browser, chromium

PLACE = (1.05, -1.9)
"""Where the cursor stands on the map of the VAE: among the twos."""


def picture(study: str, target: Path) -> None:
    """The page as it opens, at 1440 x 900, in 256 colours."""
    with tempfile.TemporaryDirectory() as folder, browser() as chrome:
        page = gapless.explorer.explore(study, language="en").save(Path(folder) / "latent.html")
        one = Visit(chrome, page.as_uri())
        one.hover(2, *PLACE)
        one.page.wait_for_timeout(700)
        shot = Image.open(io.BytesIO(one.page.screenshot())).convert("RGB")
        one.close()
    in_few_colours(shot).save(target, optimize=True)


def in_few_colours(shot: Image.Image) -> Image.Image:
    """256 colours: 160 frequent ones as they are, greys before others, and means of all the rest."""
    colours, where, counts = np.unique(np.asarray(shot).reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    common = np.argsort(-counts * np.where(np.ptp(colours, 1) == 0, 10, 1))[:160]
    others = Image.fromarray(np.delete(colours, common, 0)[None])
    means = others.quantize(96, method=Image.Quantize.MEDIANCUT, kmeans=2).getpalette() or []
    palette = np.concatenate([colours[common], np.reshape(means[: 3 * 96], (-1, 3))]).astype(int)
    nearest = np.square(colours[:, None].astype(int) - palette).sum(-1).argmin(1)
    made = Image.fromarray(nearest[where.ravel()].astype(np.uint8).reshape(shot.height, shot.width))
    made.putpalette(palette.ravel().tolist())
    return made


if __name__ == "__main__":
    if chromium()[1]:
        sys.exit(chromium()[1])
    picture(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs/pictures/explorer.png")

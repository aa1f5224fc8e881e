"""What CONTRIBUTING.md says of the code is so."""

import ast
import io
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "gapless"
BOXES = (
    "networks/network",
    "posteriors/posterior",
    "priors/prior",
    "likelihoods/likelihood",
    "regularizers/regularizer",
)
READING = (
    ("model", "draws", "objectives/objective", "objectives/elbo", "objectives/control", "parts", "conditions",
     "ownership", "schedules", "randomness"),
    ("distributions/seeded", "distributions/factorized", "distributions/divergences", *BOXES),
    ("distributions/normals", "posteriors/normals", "priors/normals", "likelihoods/normals", "distributions/bits",
     "likelihoods/bits", "distributions/points", "networks/perceptrons", "networks/convolutions"),
    ("objectives/importance", "evaluation/bounds"),
    ("recipes/recipe", "recipes/basics", "recipes/bounds", "recipes/building"),
    ("study/training", "study/support", "study/moments", "training/loop", "training/course", "training/evaluation"),
)  # fmt: skip
"""The files of each step of "Reading gapless in an afternoon"."""


def lines_of_code(path):
    """Lines without docstrings, comments and blank ones."""
    text = path.read_text("utf-8")
    docs = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    nothing = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in nothing
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(code - docs)


def test_the_core_can_be_read_in_an_afternoon():
    said = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("## Reading gapless")[1].split("\n## ")[0]
    steps = re.findall(r"^\d\. [^\n]*?, ([\d,]+):(.*?)(?=^\d\. |\Z)", said, re.MULTILINE | re.DOTALL)
    counted = [sum(lines_of_code(SOURCE / f"{name}.py") for name in step) for step in READING]
    assert len(steps) == len(READING)
    for (number, named), step, count in zip(steps, READING, counted, strict=True):
        read = " ".join(step)
        assert all(name.removesuffix(".py") in read for name in re.findall(r"`([\w/]+\.py)`", named)), named
        assert abs(count - int(number.replace(",", ""))) <= 50, f"{named.strip()[:40]}: {count}"
    total = re.search(r"core is ([\d,]+) lines", said)
    assert total
    assert abs(sum(counted) - int(total[1].replace(",", ""))) <= 100, sum(counted)
    assert sum(counted) <= 3_100, "the core shall be about 3,000 lines"

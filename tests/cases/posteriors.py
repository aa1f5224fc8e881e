"""Cases of posteriors."""

from gapless import posteriors

CASES = {
    "DiagonalNormal": lambda: posteriors.DiagonalNormal(5.0),
    "PointMass": posteriors.PointMass,
}

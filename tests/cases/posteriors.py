"""Cases of posteriors."""

from gapless import posteriors

CASES = {
    "DiagonalNormal": lambda: posteriors.DiagonalNormal(5.0),
    "PoincareNormal": lambda: posteriors.PoincareNormal(0.5, bound=3.0),
    "PointMass": posteriors.PointMass,
    "VonMisesFisher": lambda: posteriors.VonMisesFisher(5.0),
    "RelaxedCategorical": lambda: posteriors.RelaxedCategorical(2, 0.8),
    "Product": lambda: posteriors.Product((posteriors.DiagonalNormal(), posteriors.RelaxedCategorical(2)), (2, 2)),
    "VectorQuantized": lambda: posteriors.VectorQuantized(8, 2),
    "ResidualQuantized": lambda: posteriors.ResidualQuantized(8, 2, levels=3),
    "FSQ": lambda: posteriors.FSQ((5, 4)),
    "FullNormal": lambda: posteriors.FullNormal(5.0),
    "LowRankNormal": lambda: posteriors.LowRankNormal(2, 5.0),
    "Flow": lambda: posteriors.Flow(4, "planar", transforms=3, context=6, hidden=(9,), bound=5.0),
}

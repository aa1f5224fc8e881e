"""Cases of priors."""

from gapless import priors

CASES = {
    "StandardNormal": lambda: priors.StandardNormal(3),
}

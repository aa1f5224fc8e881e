"""Reference laws: what a user would draw codes from, as objects that sample, walk in loops, interpolate and whiten."""

from gapless.audit.laws.declared import DiscreteCodes, PushForward, Sphere
from gapless.audit.laws.fitted import Mixture, Mixup
from gapless.audit.laws.normal import Gaussian, Law, moments, standard

__all__ = ["DiscreteCodes", "Gaussian", "Law", "Mixture", "Mixup", "PushForward", "Sphere", "moments", "standard"]

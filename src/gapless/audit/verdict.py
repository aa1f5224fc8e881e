"""From seven numbers to words: which leg is weak."""

from collections.abc import Mapping

from gapless.audit.measure import Measure

__all__ = ["BANDS", "LEGS", "level", "levels", "verdict"]

LEGS = {
    "continuity": ("evenness", "cliff_free"),
    "completeness": ("data_like", "coverage"),
    "informativeness": ("identification",),
}
"""The measures that decide each leg. Smoothness (compared between siblings) and explained variance have no band."""

BANDS = {
    "evenness": (0.9, 0.75),
    "cliff_free": (0.999, 0.99),
    "data_like": (0.95, 0.80),
    "coverage": (0.95, 0.80),
    "identification": (0.9, 0.5),
}
"""good from, partial from."""

WORDS = ("good", "partial", "weak")
COLLAPSED, POWER = 0.02, 0.5
"""Identification at most this is none; sensitivity under this is no power."""


def level(name: str, measure: Measure) -> str | None:
    """ "good", "partial" or "weak"; None where the measure does not apply.

    A measure just under a band whose interval reaches into it has the better word: the audit bounds faults from below
    and does not accuse within its own error, but never lifts by more than one band.
    """
    if measure.value is None or measure.high is None:
        return None
    good, partial = BANDS[name]
    if measure.value >= good or (measure.value >= partial and measure.high >= good):
        return "good"
    return "partial" if measure.value >= partial or measure.high >= partial else "weak"


def levels(measures: Mapping[str, Measure]) -> dict[str, str | None]:
    """The word of each leg: that of its weakest measure; None where none of them applies.

    Args:
        measures: the headline numbers by name, and "sensitivity": where that is under 0.5, data-like draws have no say.
    """
    found = {}
    power = measures["sensitivity"].value if "sensitivity" in measures else 1.0
    for leg, names in LEGS.items():
        heard = [name for name in names if name != "data_like" or (power or 0) >= POWER]
        words = [word for name in heard if (word := level(name, measures[name])) is not None]
        found[leg] = max(words, key=WORDS.index) if words else None
    return found


def verdict(measures: Mapping[str, Measure], *, jumps: bool = False) -> str:
    """The audit in words; there is no blended score, the weakest leg is named.

    Args:
        measures: the headline numbers by name, and "sensitivity".
        jumps: whether a cliff kept its size when bisected; else what was met are steep slopes.
    """
    words = levels(measures)
    if words["informativeness"] == "weak":
        faults = _faults(words, jumps)
        identification = measures["identification"]
        collapsed = (identification.value or 0) <= COLLAPSED and (identification.low or 0) <= COLLAPSED
        empty = "empty (posterior collapse)" if collapsed else "hardly informative"
        return f"regular but {empty}" if not faults else f"{' and '.join(faults)}, and {empty}"
    informed = "informative" if words["informativeness"] == "good" else "partly informative"
    faults = _faults(words, jumps)
    return f"{informed} but {' and '.join(faults)}" if faults else f"regular and {informed}"


def _faults(words: Mapping[str, str | None], jumps: bool) -> list[str]:
    steep = "broken by cliffs" if jumps else "steep"
    named = {
        "completeness": {"partial": "somewhat gappy", "weak": "gappy"},
        "continuity": {"partial": f"somewhat {steep}" if not jumps else steep, "weak": steep},
    }
    return [name[word] for leg, name in named.items() if (word := words[leg]) in name]

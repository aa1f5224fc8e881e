"""Cases of regularizers."""

CASES = {}

"""One instance of every part: a guard compares each table with the `__all__` of its box."""

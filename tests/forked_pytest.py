"""Runs pytest again and again in forks of one process that has loaded once what takes long to load.

Reads lines of JSON `[folder of the source, arguments, file for the output]`, answers each with the exit code. Nothing
of gapless is loaded here: every fork loads it from the folder it is given.
"""

import importlib
import json
import os
import sys

import pytest

HEAVY = (
    "beartype", "hypothesis", "jaxtyping", "scipy.optimize", "scipy.sparse.csgraph", "scipy.spatial.distance",
    "scipy.stats", "sklearn.covariance", "sklearn.decomposition", "sklearn.ensemble", "sklearn.manifold",
    "sklearn.mixture", "torch",
)  # fmt: skip


def forked(source: str, arguments: list[str], output: str) -> int:
    """The exit code of pytest in a fork."""
    child = os.fork()
    if child == 0:
        file = os.open(output, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.path.insert(0, source)
        code = int(pytest.main(arguments))
        sys.stdout.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Answer until there is no more to read."""
    for name in HEAVY:
        importlib.import_module(name)
    for line in sys.stdin:
        print(forked(*json.loads(line)), flush=True)


if __name__ == "__main__":
    main()

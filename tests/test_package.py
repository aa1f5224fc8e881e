import doctest
import importlib
import pkgutil
import subprocess
import sys

import numpy
import pytest
import torch

import gapless

HEAVY = ("torch", "numpy", "sklearn", "scipy", "pandas", "matplotlib", "rich", "pydantic", "jinja2", "cyclopts")
MODULES = [m.name for m in pkgutil.walk_packages(gapless.__path__, "gapless.") if not m.name.endswith("__main__")]


def test_importing_gapless_loads_nothing_heavy():
    code = f"import sys, gapless; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in gapless.__all__:
        assert getattr(gapless, name) is not None
    assert set(gapless.__all__) <= set(dir(gapless))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gapless.nothing  # noqa: B018


@pytest.mark.parametrize("name", MODULES)
def test_doctests_hold_and_public_names_are_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        value = getattr(module, public)
        if callable(value) and (getattr(value, "__module__", None) or "").startswith("gapless"):
            assert value.__doc__, f"{name}.{public} has no docstring"
    found = {"torch": torch, "np": numpy}
    result = doctest.testmod(module, extraglobs=found, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0


THREADS = """
import threading, gapless
found = []
threads = [threading.Thread(target=lambda: found.append(gapless.train)) for _ in range(6)]
for one in threads: one.start()
for one in threads: one.join()
assert len(found) == 6 and len(set(found)) == 1
"""


def test_threads_that_use_a_name_first_at_once_all_get_it():
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True)
    assert not done.returncode, done.stderr

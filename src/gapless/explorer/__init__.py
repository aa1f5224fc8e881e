"""The explorer: one page that shows latent spaces, walks through them and is shared as one file."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gapless.explorer.notebook import View, explore, html
    from gapless.explorer.scene import Scene, build

_HOMES = {"Scene": "scene", "View": "notebook", "build": "scene", "explore": "notebook", "html": "notebook"}

__all__ = ["Scene", "View", "build", "explore", "html"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:  # loaded when used: the command takes its port before torch is imported
        return getattr(importlib.import_module(f"gapless.explorer.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'gapless.explorer' has no attribute {name!r}")

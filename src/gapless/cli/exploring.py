"""What `gapless explore` does; the port is taken before anything heavy is imported."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from gapless.cli.output import print_json, say
from gapless.errors import UsageError
from gapless.explorer.address import Address, taken

__all__ = ["explore"]

CHOICES = {"--lang": (None, "en", "ko"), "--audit": ("none", "quick", "default")}


def explore(
    folders: tuple[Path, ...],
    *,
    source: str | None,
    port: int,
    host: str,
    opened: bool,
    language: str | None,
    export: Path | None,
    items: int,
    audit: str,
    json: bool,
    label: str | None = None,
) -> None:
    """Serve the explorer of some runs until Ctrl-C, or write it as one file."""
    for option, value in (("--lang", language), ("--audit", audit)):
        if value not in CHOICES[option]:
            known = ", ".join(str(choice) for choice in CHOICES[option] if choice)
            raise UsageError(f"{option} takes {known}; got {value!r}")
    if not 1 <= items <= 1_000_000:
        raise UsageError(f"--items takes 1 to 1,000,000; got {items}")
    if export is not None:
        return _write(
            _scene(folders, source, items, audit, label=label, static=True), export, language=language, json=json
        )
    address = taken(port, host)
    try:
        scene = _scene(folders, source, items, audit, label=label, static=False)
        _serve(scene, address, language=language, opened=opened, json=json)
    finally:
        address.socket.close()
    return None


def _scene(
    folders: tuple[Path, ...], source: str | None, items: int, audit: str, *, label: str | None, static: bool
) -> Any:
    from gapless.explorer.export import built
    from gapless.explorer.scene import build, load_runs, open_data, tell_paths

    built()  # what cannot be shown is said before anything is computed
    runs = load_runs(folders)
    data = open_data(runs, source)
    new = source is not None
    scene = build(runs, data, label=label, items=items, audit=audit, new=new, static=static, tell=say)
    tell_paths(scene, folders)
    for choice in scene.choices:
        say(choice)
    return scene


def _write(scene: Any, path: Path, *, language: str | None, json: bool) -> None:
    from gapless.explorer.export import write_page

    size = write_page(scene, path, language=language)
    if json:
        return print_json({"export": str(path), "bytes": size, "decoders": scene.choices})
    print(f"explorer: {path} ({size / 1e6:.1f} MB)")
    return None


def _serve(scene: Any, address: Address, *, language: str | None, opened: bool, json: bool) -> None:
    from gapless.explorer.server import serve

    def ready() -> None:
        if json:
            print_json({"url": address.url, "port": address.port, "decoders": scene.choices})
        else:
            print(f"explorer: {address.url}")
        sys.stdout.flush()
        say("Ctrl-C ends it")
        if opened and _has_screen():
            import webbrowser

            webbrowser.open(address.url)

    with suppress(KeyboardInterrupt):  # the usual way to end a server, not a failure
        serve(scene, address, language=language, ready=ready)
    say("the explorer has ended")  # without an interrupt, too: who starts us may have had it ignored


def _has_screen() -> bool:
    """Whether a browser would open a window; without one a text browser would take this terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

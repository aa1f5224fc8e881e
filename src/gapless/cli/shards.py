"""What `gapless shards` does."""

from pathlib import Path
from typing import Any

from gapless.cli.options import Reading, parse_size
from gapless.cli.output import print_json, say
from gapless.errors import UsageError

__all__ = ["shards"]


def shards(source: str, *, output: Path | None, reading: Reading, verify: bool, json: bool) -> None:
    """Write a source as shards, or compare shards with their checksums."""
    from gapless.data import verify_shards, write_shards

    if verify:
        if output is not None:
            raise UsageError("--verify reads shards and writes none", fix="leave --output out")
        count = verify_shards(Path(source))
        return _tell({"folder": source, "shards": count, "sound": True}, f"{count} shards are sound", json=json)
    if output is None:
        raise UsageError("a folder to write to is needed", fix="gapless shards SOURCE -o FOLDER")
    manifest = write_shards(
        source,
        output,
        array=reading.array,
        label=reading.label,
        drop=reading.drop,
        resize=parse_size(reading.resize),
        on_error=reading.on_error,
        missing=reading.missing,
    )
    for note in manifest["notes"]:
        say(f"  {note}")
    shape, written = " × ".join(map(str, manifest["event_shape"])), manifest["shards"]
    text = f"{manifest['items']:,} items of shape {shape} in {len(written)} shards: {output}"
    return _tell({**manifest, "folder": str(output)}, text, json=json)


def _tell(result: dict[str, Any], text: str, *, json: bool) -> None:
    if json:
        print_json(result)
    else:
        print(text)

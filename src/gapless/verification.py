"""Whether a folder of gapless is as it was written."""

from pathlib import Path

from gapless.errors import DataError, GaplessError
from gapless.files import MANIFEST, damages
from gapless.runs import load_run
from gapless.training.checkpoints import Checkpoints
from gapless.workplaces import CHECKPOINTS, CONFIG, PLAN, STUDY, is_finished, is_ours

__all__ = ["verify"]


def verify(folder: str | Path) -> dict[str, list[str]]:
    """Check a run or a study: checksums of every file and every checkpoint, and whether a finished run loads.

    Args:
        folder: what `gapless train -o` or `gapless compare -o` wrote, finished or not.

    Returns:
        What is wrong with each part, by name: nothing for a whole one. Parts are the folder itself, its checkpoints
        and the runs of a study.

    Raises:
        DataError: this is no folder of gapless.
    """
    folder = Path(folder)
    if not is_ours(folder):
        raise DataError("no run and no study is here", where=str(folder), fix="give what `gapless train -o` wrote")
    found, checkpoints = {}, Checkpoints(folder / CHECKPOINTS).verify()
    begun = (folder / PLAN).is_file() and (checkpoints or not (folder / CONFIG).exists())
    if (folder / MANIFEST).exists() or not begun:
        found[folder.name] = damages(folder) or _unloadable(folder)
    found |= {f"{folder.name}/{name}": damaged for name, damaged in checkpoints.items()}
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink() and is_ours(path)):
        found |= {f"{folder.name}/{name}": damaged for name, damaged in verify(inner).items()}
    return found or {folder.name: ["nothing was saved yet"]}


def _unloadable(folder: Path) -> list[str]:
    if (folder / STUDY).is_file() or not ((folder / CONFIG).is_file() and is_finished(folder)):
        return []
    try:
        load_run(folder)
    except GaplessError as error:
        return [error.what]
    return []

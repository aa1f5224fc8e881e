"""Reading ahead: an iterator that runs in a thread of its own, some items before they are asked for."""

import threading
from collections.abc import Generator, Iterator
from queue import Empty, Full, Queue
from typing import Any, TypeVar

__all__ = ["ahead"]

T = TypeVar("T")
_PATIENCE = 0.1  # seconds between two looks at whether anybody still wants the items


class _End:
    """The last item: the iterator has ended, with an error or without."""

    def __init__(self, error: BaseException | None = None):
        self.error = error


def ahead(source: Iterator[T], *, size: int) -> Generator[T, None, None]:
    """The items of an iterator, up to `size` of them made ahead in a thread.

    An error in the thread is raised here, after the items before it. The thread ends when the items do, and when this
    iterator is closed or forgotten.

    Args:
        source: what to run; it is used by the thread alone.
        size: how many items may wait.

    >>> list(ahead(iter("abc"), size=2))
    ['a', 'b', 'c']
    """
    waiting: Queue[Any] = Queue(maxsize=size)
    unwanted = threading.Event()
    thread = threading.Thread(target=_run, args=(source, waiting, unwanted), name="gapless reads ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        unwanted.set()
        _empty(waiting)
        thread.join()


def _run(source: Iterator[Any], waiting: "Queue[Any]", unwanted: threading.Event) -> None:
    end = _End()
    try:
        for item in source:
            if not _put(item, waiting, unwanted):
                return
    except BaseException as error:
        end = _End(error)
    _put(end, waiting, unwanted)


def _put(item: Any, waiting: "Queue[Any]", unwanted: threading.Event) -> bool:
    while not unwanted.is_set():
        try:
            waiting.put(item, timeout=_PATIENCE)
            return not unwanted.is_set()
        except Full:
            continue
    return False


def _empty(waiting: "Queue[Any]") -> None:
    try:
        while True:
            waiting.get_nowait()
    except Empty:
        pass

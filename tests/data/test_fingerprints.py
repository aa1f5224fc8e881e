"""Fingerprints: one string for the same data wherever it lies, another one for other data."""

import numpy as np
import pytest

from gapless.data import fingerprints, read
from gapless.data.fingerprints import fingerprint

RNG = np.random.default_rng(4)
VALUES = RNG.integers(0, 255, (90, 6, 5), dtype=np.uint8)


def test_the_same_wherever_it_lies(tmp_path):
    np.save(tmp_path / "x.npy", VALUES)
    np.savez_compressed(tmp_path / "x.npz", X=VALUES)
    first = read(VALUES).fingerprint()
    assert len(first) == 32
    assert int(first, 16)
    assert {read(source).fingerprint() for source in (tmp_path / "x.npy", tmp_path / "x.npz", VALUES.copy())} == {first}
    assert fingerprint(VALUES.astype(">f4"), np.arange(3)) == fingerprint(
        np.asfortranarray(VALUES, "<f4"), np.arange(3)
    )


def test_any_change_is_seen():
    first = read(VALUES).fingerprint()
    changed = VALUES.copy()
    for place in [(0, 0, 0), (89, 5, 4), (44, 2, 2)]:
        changed[place] += 1
        assert read(changed).fingerprint() != first
        changed[place] -= 1
    others = [VALUES[::-1], VALUES[:-1], VALUES.astype(np.float32), VALUES.reshape(90, 5, 6), VALUES.reshape(90, 30)]
    assert len({first, *(read(v).fingerprint() for v in others)}) == 6
    assert read(VALUES, seed=1).fingerprint() != first
    assert read(VALUES, held_out=0.2).fingerprint() != first


def test_large_data_is_read_in_blocks_from_end_to_end(monkeypatch):
    monkeypatch.setattr(fingerprints, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(fingerprints, "_SAMPLE_BYTES", 640)
    values = RNG.integers(0, 255, (10_000, 2), dtype=np.uint8)
    first, seen = fingerprint(values), []
    for row in range(10_000):
        values[row] += 1
        seen.append(fingerprint(values) != first)
        values[row] -= 1
    assert sum(seen) * 2 >= 640  # bytes
    assert seen[0]
    assert seen[-1]
    gaps = np.diff(np.flatnonzero(seen))
    assert gaps.max() < 10_000 / 63 + 5
    assert fingerprint(values[::-1]) != first
    assert fingerprint(values[1:]) != first


def test_blocks_cover_small_data_once():
    for items, width in ((1, 1), (63, 1 << 20), (65, 1 << 22), (300, 1 << 20)):
        blocks = list(fingerprints._blocks(items, width))
        if items * width <= fingerprints.WHOLE_BYTES:
            assert blocks == [(0, items)]
        else:
            assert blocks[0][0] == 0
            assert blocks[-1][1] == items
            assert sum(b - a for a, b in blocks) * width >= 64 << 20


@pytest.mark.parametrize("size", [1 << 26])
def test_it_is_fast(size):
    """At least 0.1 GB/s of CPU time, a fifth of what an idle core does, so that a loaded machine passes."""
    import time

    values = np.zeros((size >> 10, 1 << 10), dtype=np.uint8)
    start = time.process_time()
    fingerprint(values)
    assert size / (time.process_time() - start) > 1e8

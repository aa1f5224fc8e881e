"""The doctor names what is there, and advises where something is off and only there."""

import json

import pytest
import torch

from gapless import machine
from gapless.cli import doctor


@pytest.fixture
def healthy(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GAPLESS_TUNE", "GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", machine.SPIN)


def found(folder):
    return {check.name: check for check in doctor.checks(folder)}


def test_a_machine_in_order_gets_no_advice(tmp_path, healthy):
    checks = found(tmp_path / "runs")
    names = "versions threads OpenMP allocator process optimizer convolutions bf16 runs"
    assert set(names.split()) <= set(checks)
    assert torch.__version__ in checks["versions"].found
    assert [check for check in checks.values() if check.advice] == []


@pytest.mark.parametrize(
    ("name", "spoil", "advice"),
    [
        ("allocator", lambda m: m.setenv("GAPLESS_TUNE", "0"), "unset GAPLESS_TUNE"),
        ("process", lambda m: m.setenv("GAPLESS_TUNE", "0"), "unset GAPLESS_TUNE"),
        ("allocator", lambda m: m.setenv("MALLOC_TRIM_THRESHOLD_", "0"), "unset MALLOC_TRIM_THRESHOLD_"),
        ("optimizer", lambda m: m.delattr(torch, "_fused_adam_"), "has _fused_adam_"),
        ("convolutions", lambda m: m.setattr(torch.backends.mkldnn, "is_available", lambda: False), "oneDNN"),
        ("threads", lambda m: m.setattr(torch, "get_num_threads", lambda: 10_000), "OMP_NUM_THREADS="),
        ("OpenMP", lambda m: m.setattr(machine, "openmp", lambda: {"runtime": "gnu", "wait": "default"}), "SPINCOUNT"),
        ("runs", lambda m: m.setattr(doctor.os, "access", lambda *_: False), "choose another -o"),
    ],
)  # fmt: skip
def test_what_is_off_is_named_with_its_advice(tmp_path, healthy, monkeypatch, name, spoil, advice):
    spoil(monkeypatch)
    assert advice in found(tmp_path)[name].advice


def test_it_prints_lines_or_one_json_object(tmp_path, capsys, healthy):
    doctor.doctor(runs=tmp_path, json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed["off"] == 0
    doctor.doctor(runs=tmp_path / "a-file-that-is-none", json=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(printed["checks"])
    assert lines[-1].startswith("runs")

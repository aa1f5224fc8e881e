"""Speed against peers, whole processes side by side: `python benchmarks/speed --data FOLDER` (or `make bench`).

Every peer lives in an environment of its own under .bench/, made at the first run. Rounds are interleaved and their
order alternates; what counts is the median of the ratios within a round, for other jobs disturb a round as a whole.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
BENCH = ROOT / ".bench"
TORCH = next(line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
PEERS = {  # name: (environment, its packages, script, workloads)
    "pythae": ("pythae", (TORCH, "pythae"), "pythae_vae.py", ("W1", "W2")),
    "plain torch": ("pythae", (TORCH, "pythae"), "plain_torch.py", ("W1", "W2")),
    "Keras on JAX": ("jax", ("keras", "jax[cpu]"), "keras_vae.py", ("W1", "W2")),
    "JAX scan": ("jax", ("keras", "jax[cpu]"), "jax_scan.py", ("W1",)),
}
ALL = "gapless, with inspection and validation"
SPIN = "while True: pass"


def environment(name: str, packages: tuple[str, ...]) -> Path:
    """The python of a peer's environment, made if it is not there."""
    python = BENCH / name / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", BENCH / name], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages], check=True
        )
    return python


def run(python: Path | str, script: str, work: str, **options: str) -> dict:
    """One process from start to end: its own line of results, wall seconds and peak memory in MB."""
    variables = {f"BENCH_{name.upper()}": value for name, value in options.items()}
    variables["PYTHONDONTWRITEBYTECODE"] = ""  # peers come compiled, so be we from the second process on
    started = time.time()
    process = subprocess.Popen(
        [python, HERE / script],
        env={**os.environ, **variables, "BENCH_WORK": work, "BENCH_STARTED": str(started), "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"error: {script} {work} ended with {process.returncode}; run it by hand to see why")
    result = json.loads(printed.splitlines()[-1])
    cpu = usage.ru_utime + usage.ru_stime
    return {**result, "wall": time.time() - started, "cpu": cpu, "mb": usage.ru_maxrss / 1024}


def rounds(names: list[str], work: str, count: int, *, first: int = 0, **options: str) -> list[dict[str, dict]]:
    """`count` rounds of all from number `first` on, its seed, each in the reverse order of the one before."""
    done = []
    for number in range(first, first + count):
        results = {}
        for name in names if number % 2 == 0 else names[::-1]:
            python, script = commands()[name]
            results[name] = run(python, script, work, seed=str(number), **options)
            print(f"  {work} round {number + 1} {name}: {results[name]}", file=sys.stderr, flush=True)
        done.append(results)
    return done


def commands() -> dict[str, tuple[Path | str, str]]:
    peers = {name: (environment(place, packages), script) for name, (place, packages, script, _) in PEERS.items()}
    return {"gapless": (sys.executable, "same_work.py"), ALL: (sys.executable, "ours.py"), **peers}


def ratio(done: list[dict[str, dict]], name: str, what: str, *, higher_is_better: bool = False) -> float:
    """Median over rounds of peer / ours (ours / peer where higher is better): above 1 we are better."""
    pairs = [(one[name][what], one["gapless"][what]) for one in done]
    return statistics.median(ours / peer if higher_is_better else peer / ours for peer, ours in pairs)


def table(work: str, done: list[dict[str, dict]], limits: list[dict]) -> list[str]:
    """One row a competitor: medians, and ratios within rounds."""
    limit, peak = (statistics.median(one[what] for one in limits) for what in ("limit", "peak"))
    ours = statistics.median(one["gapless"]["rate"] for one in done)
    lines = [
        f"### {work}",
        "",
        "| | wall s | x | CPU s | x | first step s | x | images/s | x | images/CPU s | x | MB | x | loss, nats |",
        "|" + "---|" * 14,
    ]
    for name in done[0]:
        middle = {k: statistics.median(one[name][k] for one in done) for k in done[0][name]}
        lines.append(
            f"| {name} | {middle['wall']:.1f} | {ratio(done, name, 'wall'):.2f} | {middle['cpu']:.1f} | "
            f"{ratio(done, name, 'cpu'):.2f} | {middle['first_step']:.1f} | "
            f"{ratio(done, name, 'first_step'):.2f} | {middle['rate']:,.0f} | "
            f"{ratio(done, name, 'rate', higher_is_better=True):.2f} | {middle['cpu_rate']:,.0f} | "
            f"{ratio(done, name, 'cpu_rate', higher_is_better=True):.2f} | {middle['mb']:.0f} | "
            f"{ratio(done, name, 'mb'):.2f} | {middle['loss']:.2f} |"
        )
    losses = [statistics.median(one[name]["loss"] for one in done) for name in done[0] if name != ALL]
    lines += [
        "",
        "Columns x: how many times ours is better.",
        f"Limit by the step's products alone, same minutes: {limit:,.0f} images/s; peak {peak:,.0f}. "
        f"Ours: {ours / limit:.0%} of the limit, {ours / peak:.0%} of the peak. "
        f"Losses (training, mean of the last epoch) spread over {max(losses) - min(losses):.2f} nats.",
        "",
    ]
    return lines


def busy(seconds: str, count: int, data: str) -> list[str]:
    """Images a second beside two busy loops, ours against the plain torch script; and without them, for comparison."""
    lines = [
        "### Two busy loops beside it, W1",
        "",
        "| | gapless images/s | plain torch images/s | ratio |",
        "|---|---|---|---|",
    ]
    for title, loops in (("nothing beside it", 0), ("two busy loops", 2)):
        spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(loops)]
        try:
            done = rounds(["gapless", "plain torch"], "W1", count, seconds=seconds, data=data)
        finally:
            for process in spinning:
                process.kill()
                process.wait()
        ours, theirs = (statistics.median(one[n]["rate"] for one in done) for n in ("gapless", "plain torch"))
        times = ratio(done, "plain torch", "rate", higher_is_better=True)
        lines.append(f"| {title} | {ours:,.0f} | {theirs:,.0f} | {times:.1f} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(ROOT / "../shared/data/mnist"), help="folder of MNIST's idx files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", default="2")
    parser.add_argument("--seconds", default="8", help="of training, where time is limited")
    parser.add_argument("--only", nargs="*", default=["W1", "W2", "busy"], choices=["W1", "W2", "busy"])
    parser.add_argument("--one-core", action="store_true", help="all on one core: fair on a machine that is busy")
    parser.add_argument("--short", action="store_true", help="stop each run after --seconds of training: rates alone")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    chosen = parser.parse_args()
    data = str(Path(chosen.data).resolve())
    limited = {"seconds": chosen.seconds} if chosen.short else {}
    if chosen.one_core:
        os.environ["OMP_NUM_THREADS"] = "1"
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    lines = [f"{date.today()}, {platform.machine()}, {os.cpu_count()} processors, load at the start "
             f"{os.getloadavg()[0]:.1f}; {chosen.epochs} epochs, {chosen.rounds} interleaved rounds, medians"
             f"{', all on one core' if chosen.one_core else ''}.", ""]  # fmt: skip
    for work in ("W1", "W2"):
        if work in chosen.only:
            names = ["gapless", ALL, *(name for name in chosen.peers if work in PEERS[name][3])]
            limits, done = [], []
            for number in range(chosen.rounds):
                limits.append(run(commands()["plain torch"][0], "limit.py", work))
                done += rounds(names, work, 1, first=number, epochs=chosen.epochs, data=data, **limited)
            lines += table(work, done, limits)
    if "busy" in chosen.only:
        lines += busy(chosen.seconds, chosen.rounds, data)
    print("\n".join(lines))


if __name__ == "__main__":
    main()

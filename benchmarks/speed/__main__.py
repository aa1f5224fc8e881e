"""Speed against peers, whole processes side by side: `python benchmarks/speed --data FOLDER` (or `make bench`).

Every peer lives in an environment of its own under .bench/, made at the first run and again where its packages change.
Rounds are interleaved and their order alternates; what counts is the median of the ratios within a round, for other
jobs disturb a round as a whole. Ends with 1 where final losses differ by more than half a nat beyond chance.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import agreement

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
BENCH = ROOT / ".bench"
PINS = {
    line.split("==")[0]: line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
}
TORCH, NUMPY, JAX = PINS["torch"], PINS["numpy"], "jax[cpu]==0.10.2"
PEERS = {  # name: (environment, its packages, script, workloads)
    "pythae": ("pythae", (TORCH, NUMPY, "pythae==0.1.2"), "pythae_vae.py", ("W1", "W2")),
    "plain torch": ("torch", (TORCH, NUMPY), "plain_torch.py", ("W1", "W2")),
    "Keras on JAX": ("keras", (JAX, NUMPY, "keras==3.15.1"), "keras_vae.py", ("W1", "W2")),
    "JAX scan": ("jax", (JAX, NUMPY), "jax_scan.py", ("W1",)),
}
BUSY = {"W1": ("plain torch", "pythae", "Keras on JAX"), "W2": ("plain torch",)}
"""Beside busy loops: those that can be stopped in the middle of an epoch."""
ALL = "gapless, with inspection and validation"
SPIN = "while True: pass"


def environment(name: str, packages: tuple[str, ...]) -> Path:
    """The python of a peer's environment, made anew where it does not hold these packages."""
    folder, wanted = BENCH / name, "\n".join(packages)
    python, made = folder / "bin" / "python", folder / "packages.txt"
    if not made.exists() or made.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages], check=True
        )
        made.write_text(wanted)
    return python


def processor() -> str:
    """The processor's model, as Linux calls it; elsewhere what Python knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def header(chosen: argparse.Namespace) -> str:
    """When, where and on what the figures were taken."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = sorted({package for name in chosen.peers for package in PEERS[name][1]})
    return (
        f"{date.today()}, {processor()}, {usable} of {os.cpu_count()} processors, load at the start "
        f"{os.getloadavg()[0]:.1f}; {', '.join(packages)}; {chosen.epochs} epochs, {chosen.rounds} interleaved rounds, "
        f"medians{', all on one core' if chosen.one_core else ''}."
    )


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
            python, script = command(name)
            results[name] = run(python, script, work, seed=str(number), **options)
            print(f"  {work} round {number + 1} {name}: {results[name]}", file=sys.stderr, flush=True)
        done.append(results)
    return done


def command(name: str) -> tuple[Path | str, str]:
    """The python and the script of one of those that are compared."""
    ours = {"gapless": "same_work.py", ALL: "ours.py"}
    if name in ours:
        return sys.executable, ours[name]
    place, packages, script, _ = PEERS[name]
    return environment(place, packages), script


def ratio(done: list[dict[str, dict]], name: str, what: str, *, higher_is_better: bool = False) -> float:
    """Median over rounds of peer / ours (ours / peer where higher is better): above 1 we are better."""
    pairs = [(one[name][what], one["gapless"][what]) for one in done]
    return statistics.median(ours / peer if higher_is_better else peer / ours for peer, ours in pairs)


def table(work: str, done: list[dict[str, dict]], limits: list[dict]) -> tuple[list[str], bool]:
    """One row a competitor, medians and ratios within rounds; False where final losses differ."""
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
    losses = {name: [one[name]["loss"] for one in done] for name in done[0] if name != ALL}  # ALL has its own start
    known = all(math.isfinite(loss) for values in losses.values() for loss in values)
    verdict, agree = agreement.judged(losses) if known else ("Stopped early: no losses to compare.", True)
    lines += [
        "",
        "Columns x: how many times ours is better.",
        f"Limit by the step's products alone, same minutes: {limit:,.0f} images/s; peak {peak:,.0f}. "
        f"Ours: {ours / limit:.0%} of the limit, {ours / peak:.0%} of the peak. Training losses, last epoch:",
        verdict,
        "",
    ]
    return lines, agree


def busy(seconds: str, count: int, data: str, peers: list[str]) -> list[str]:
    """Images a second beside two busy loops, ours and the peers' that can be stopped; and without them."""
    lines = [
        "### Beside two busy loops",
        "",
        f"| | gapless images/s | {' | '.join(f'{name} | x' for name in BUSY['W1'])} |",
        "|" + "---|" * (2 + 2 * len(BUSY["W1"])),
    ]
    for work, those in BUSY.items():
        names = [name for name in those if name in peers]
        for title, loops in (("nothing beside it", 0), ("two busy loops", 2)):
            spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(loops)]
            try:
                done = rounds(["gapless", *names], work, count, seconds=seconds, data=data)
            finally:
                for process in spinning:
                    process.kill()
                    process.wait()
            rates = {name: statistics.median(one[name]["rate"] for one in done) for name in done[0]}
            times = {name: ratio(done, name, "rate", higher_is_better=True) for name in names}
            cells = [f"{rates[n]:,.0f} | {times[n]:.1f}" if n in names else " | " for n in BUSY["W1"]]
            lines.append(f"| {work}, {title} | {rates['gapless']:,.0f} | {' | '.join(cells)} |")
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
    for name in chosen.peers:  # made before anything is measured
        command(name)
    lines, agree = [header(chosen), ""], True
    for work in ("W1", "W2"):
        if work in chosen.only:
            names = ["gapless", ALL, *(name for name in chosen.peers if work in PEERS[name][3])]
            limits, done = [], []
            for number in range(chosen.rounds):
                limits.append(run(command("plain torch")[0], "limit.py", work))
                done += rounds(names, work, 1, first=number, epochs=chosen.epochs, data=data, **limited)
            found, same = table(work, done, limits)
            lines, agree = [*lines, *found], agree and same
    if "busy" in chosen.only:
        lines += busy(chosen.seconds, chosen.rounds, data, chosen.peers)
    print("\n".join(lines))
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()

"""How OpenMP's threads should wait: images/s of W1's step by spin count, interleaved, with and without busy loops.

The setting is read when torch is loaded, so every measurement is a process. On Linux the processor share that other
processes took meanwhile is printed: "nothing beside it" means what it says only where that is near 0.
"""

import os
import resource
import statistics
import subprocess
import sys
import time

WAYS = {
    "default": {"GOMP_SPINCOUNT": "300000"},  # libgomp's own, said aloud: `import gapless` sets it where nobody has
    "10000": {"GOMP_SPINCOUNT": "10000"},
    "1000": {"GOMP_SPINCOUNT": "1000"},
    "100": {"GOMP_SPINCOUNT": "100"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def steps(seconds: float) -> None:
    """Print the images a second of `seconds` of training steps on noise."""
    import torch

    from gapless import Settings, machine, recipes
    from gapless.training.course import Course

    machine.tune()
    model, objective = recipes.build("vae", (1, 28, 28), latent=20, hidden=(400,), network="mlp")
    course = Course(model.train(), objective.train(), Settings(), epochs=1, per_epoch=1 << 30)
    x, done, begun = torch.rand(128, 1, 28, 28), -20, 0.0
    while done < 0 or time.perf_counter() - begun < seconds:
        course.advance(x)
        done += 1
        begun = time.perf_counter() if done == 0 else begun
    print(128 * done / (time.perf_counter() - begun))


def measured(way: dict[str, str], seconds: float) -> float:
    inherited = {
        k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
    }
    command = [sys.executable, __file__, str(seconds)]
    done = subprocess.run(command, env={**inherited, **way}, capture_output=True, text=True, check=True)
    return float(done.stdout)


def busy_seconds() -> float:
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(value) for value in file.readline().split()[1:9]]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK") - used.ru_utime - used.ru_stime


def main(rounds: int = 3, seconds: float = 4.0) -> None:
    for title, loops in (("nothing beside it", 0), ("two busy loops", 2)):
        spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
        before, begun = busy_seconds(), time.monotonic()
        try:
            found = [{name: measured(way, seconds) for name, way in WAYS.items()} for _ in range(rounds)]
        finally:
            for process in spinning:
                process.kill()
                process.wait()
        share = (busy_seconds() - before) / (time.monotonic() - begun)
        print(f"{title}; processors others took, on average: {share:.2f}")
        for name in WAYS:
            times = statistics.median(one[name] / one["default"] for one in found)
            print(f"  {name:12} {statistics.median(one[name] for one in found):9,.0f} images/s  {times:6.2f} x default")


if __name__ == "__main__":
    steps(float(sys.argv[1])) if len(sys.argv) > 1 else main()

"""How long a line of memory takes from one processor to the other, once a second: near or far, see docs/speed.md.

python benchmarks/handing.py [SECONDS]     (needs a C compiler)
"""

import ctypes
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>
static _Alignas(128) atomic_int turn;
static void on(int processor) {
    cpu_set_t set; CPU_ZERO(&set); CPU_SET(processor, &set); sched_setaffinity(0, sizeof set, &set);
}
static void *answer(void *rounds) {
    on(1);
    for (int i = 0; i < *(int *)rounds; i++) {
        while (atomic_load(&turn) != 2 * i + 1);
        atomic_store(&turn, 2 * i + 2);
    }
    return 0;
}
double handing(int rounds) {  /* nanoseconds one way, the best hundred */
    struct timespec t; double before, now, best = 1e12; pthread_t other; cpu_set_t mine;
    sched_getaffinity(0, sizeof mine, &mine);
    on(0); atomic_store(&turn, 0); pthread_create(&other, 0, answer, &rounds);
    clock_gettime(CLOCK_MONOTONIC, &t); before = t.tv_sec * 1e9 + t.tv_nsec;
    for (int i = 0; i < rounds; i++) {
        atomic_store(&turn, 2 * i + 1);
        while (atomic_load(&turn) != 2 * i + 2);
        if (i % 100 == 99) {
            clock_gettime(CLOCK_MONOTONIC, &t); now = t.tv_sec * 1e9 + t.tv_nsec;
            if ((now - before) / 200 < best) best = (now - before) / 200;
            before = now;
        }
    }
    pthread_join(other, 0); sched_setaffinity(0, sizeof mine, &mine);
    return best;
}
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "handing.c"), Path(folder, "handing.so")
        source.write_text(SOURCE)
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-lpthread"], check=True)
        handing = ctypes.CDLL(str(library)).handing
        handing.restype = ctypes.c_double
        for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 10):
            print(f"{handing(20_000):.0f} ns", flush=True)
            time.sleep(1)


if __name__ == "__main__":
    main()

"""How long `edgeward --help` takes, beside a Python that does nothing.

usage: python benchmarks/cli/help_time.py [--rounds 30]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from edgeward.targets.probe import probe

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "edgeward --help": ["-m", "edgeward", "--help"],
    "edgeward compile --help": ["-m", "edgeward", "compile", "--help"],
}


def milliseconds(arguments: list[str]) -> float:
    """Run it once."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1e3


def main() -> None:
    """Measure in turn and print medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    machine = probe()
    print(f"{machine.cpu_model}, {machine.cores} cores; Python {sys.version.split()[0]}")
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            times[name].append(milliseconds(arguments))
    for name, found in times.items():
        print(f"{name:24} median {statistics.median(found):6.1f} ms   worst {max(found):6.1f} ms")


if __name__ == "__main__":
    main()

"""What huge pages under the weights are worth: a generator's bundle with them and without.

usage: python benchmarks/onnx/huge_pages.py BUNDLE...

Each bundle is loaded in two child processes of one thread, `EDGEWARD_HUGE_PAGES` 1 and 0, and both
are asked in turn as in `decoders.py`; figures are medians of the rounds' own ratios, time without
over time with.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from decoders import HERE, Contestant, measured

from edgeward.runtimes.engines.huge_pages import SETTING
from edgeward.targets.probe import probe


def main() -> None:
    """Ask both, print a row a bundle."""
    machine = probe()
    print(f"{machine.cpu_model}, {machine.cores} cores, 1 thread")
    for bundle in map(Path, sys.argv[1:]):
        command = [sys.executable, HERE / "edgeward_bundle.py", bundle]
        both = [Contestant(one, command, environment={SETTING: one}) for one in ("1", "0")]
        phases = measured(both)
        told = [
            f"{phase} {statistics.median(without / with_ for with_, without in rounds):.2f}"
            for phase, rounds in phases.items()
        ]
        print(f"{bundle.name}: {', '.join(told)}", flush=True)


if __name__ == "__main__":
    main()

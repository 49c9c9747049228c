"""`python -m edgeward.runtimes.finalize BUNDLE`: what the agent runs before its gate.

Prints the engine's record as one JSON object. Exit codes are the command line's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgeward.errors import EdgewardError
from edgeward.runtimes.bundle.read import open_bundle

from .build import BUILD_SECONDS, Limits, finalize, plan_build
from .place import engines_folder


def main() -> int:
    """Build the bundle's engine unless it is there."""
    parser = argparse.ArgumentParser(prog="edgeward.runtimes.finalize")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--max-seconds", type=float, default=BUILD_SECONDS)
    parser.add_argument("--max-memory-bytes", type=int)
    given = parser.parse_args()
    limits = Limits(given.max_seconds, given.max_memory_bytes)
    try:
        bundle = open_bundle(given.bundle, check="sizes")
        done = finalize(plan_build(bundle, engines_folder()), limits)
    except EdgewardError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(done.built.record.model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

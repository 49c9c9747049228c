"""`python -m edgeward.runtimes.server BUNDLE`: what the agent starts for the active bundle."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgeward.errors import EdgewardError

from .serve import ServeOptions, announce_on_stderr, serve


def main() -> int:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="edgeward.runtimes.server")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--spool", type=Path)
    parser.add_argument("--flush-seconds", type=float, default=10.0)
    parser.add_argument("--ready-file", type=Path)
    given = vars(parser.parse_args())
    bundle = given.pop("bundle")
    try:
        serve(bundle, ServeOptions(**given), announce_on_stderr)
    except EdgewardError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

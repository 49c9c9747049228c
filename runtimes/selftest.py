"""`python -m edgeward.runtimes.selftest BUNDLE`: the golden inputs in a process of their own.

`--plan FILE` runs them on an engine that was built and lies elsewhere. Prints one JSON
object on stdout. Exit codes are the command line's: 0 passed, 3 fell short.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from edgeward.errors import EdgewardError, ProofError

from .bundle.read import open_bundle
from .proof.golden import run_golden


def main(arguments: list[str]) -> int:
    """Run the self-test of the bundle that is named."""
    bundle, *more = arguments or [""]
    if not bundle or more[:1] not in ([], ["--plan"]) or len(more) not in (0, 2):
        sys.stderr.write("usage: python -m edgeward.runtimes.selftest BUNDLE [--plan FILE]\n")
        return 2
    out = _only_for_the_result()
    try:
        plan = Path(more[1]) if more else None
        report = run_golden(open_bundle(Path(bundle)), plan=plan)
    except EdgewardError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    with os.fdopen(out, "w") as file:
        file.write(json.dumps(report.to_json(), allow_nan=False) + "\n")
    return 0 if report.passed else ProofError.exit_code


def _only_for_the_result() -> int:
    """Engines print to stdout as they like: it is sent to stderr and kept for the result."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return kept


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

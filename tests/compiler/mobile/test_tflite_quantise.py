"""What the quantiser makes of products with constants."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from documents import ROOT

from edgeward.compiler.child import clean_environment
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_constant_on_the_left_stays_in_float_and_what_is_constant_is_folded(
    tmp_path: Path,
) -> None:
    python = Toolchains().ensure("litert", NullReporter()).python
    done = subprocess.run(
        [python, ROOT / "tests" / "support" / "check_constant_products.py", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment({"PYTHONPATH": str(ROOT / "src")}),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for product in ("two", "left"):
        told = found[product]
        assert told["kept"] == 1
        assert told["with"] > 0.999, told
        # Both sides in int8 give infinities or chance, a left one alone is refused.
        assert told["without"] is None or told["without"] < 0.9, told
    # A block of 32 divides no row of 48: the quantiser would refuse the model for it.
    assert found["blocks"]["types"] == {"64": "int4", "48": "int8"}
    assert found["blocks"]["cosine"] > 0.98
    assert found["attended"] == {
        "0.0": ["aten.add.Tensor"],
        "0.5": ["aten.scaled_dot_product_attention.default", "aten.add.Tensor"],
    }

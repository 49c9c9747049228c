"""What the quantiser makes of products that do not depend on the inputs."""

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
def test_products_of_two_constants_are_folded_and_what_is_left_of_them_stays_in_float(
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
    assert found["products"] == 1
    assert found["kept"] > 0.999
    # The layer's weights alone; with them both constants of the product, which ruins it.
    assert found["rounded"] == [1, 3]
    assert found["bare"] is None or found["bare"] < 0.9
    assert found["left"] == {
        "0.0": ["aten.add.Tensor"],
        "0.5": ["aten.scaled_dot_product_attention.default", "aten.add.Tensor"],
    }

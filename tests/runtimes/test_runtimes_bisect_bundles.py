"""`edgeward verify BUNDLE --bisect FLOAT_BUNDLE` on whole bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgeward.errors import UnsupportedError, UsageError
from edgeward.runtimes.bundle.read import Bundle, open_bundle
from edgeward.runtimes.cli import verify_command
from edgeward.runtimes.proof.bisect import bisect_bundles


def test_a_bundle_departs_nowhere_from_itself(tiny_bundle: Bundle) -> None:
    found = bisect_bundles(tiny_bundle, tiny_bundle)
    assert found.first is None
    assert found.compared >= 1
    assert found.end == 0


def test_the_layer_that_departs_is_printed(tiny_bundle: Bundle, make_bundle: Any) -> None:
    other = make_bundle("noisy", noise=0.5)
    arguments = [str(other.path), "--bisect", str(tiny_bundle.path), "-o", "json"]
    done = CliRunner().invoke(verify_command, arguments)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert rows[0]["own_error"] > 0.1
    assert "departs is" in done.stderr


def test_bundles_of_two_models_are_refused(tiny_bundle: Bundle, make_bundle: Any) -> None:
    source = {**tiny_bundle.manifest.source.model_dump(), "weights_sha256": "1" * 64}
    other = make_bundle("other", changes={"source": source})
    with pytest.raises(UsageError, match="not of one model"):
        bisect_bundles(other, tiny_bundle)


def test_a_format_without_layers_to_see_is_refused(tmp_path: Path, make_bundle: Any) -> None:
    made = make_bundle("plain")
    recipe = {**made.manifest.recipe.model_dump(), "format": "gguf"}
    other = open_bundle(make_bundle("gguf", changes={"recipe": recipe}).path)
    with pytest.raises(UnsupportedError, match="layers"):
        bisect_bundles(other, made)

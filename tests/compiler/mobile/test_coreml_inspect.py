"""What `edgeward inspect` tells of the Neural Engine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from edgeward.errors import IntegrityError
from edgeward.runtimes.bundle.read import open_bundle
from edgeward.runtimes.bundle.summary import NEURAL_ENGINE, summary

FIELD = "may leave the neural engine"


def told(make_bundle: Any, name: str, content: str) -> dict[str, object]:
    folder = Path(make_bundle(name).path)
    (folder / NEURAL_ENGINE).write_text(content)
    document = json.loads((folder / "manifest.json").read_text())
    data = content.encode()
    entry = {"path": NEURAL_ENGINE, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    document["files"].append(entry)
    (folder / "manifest.json").write_text(json.dumps(document))
    rows = summary(open_bundle(folder))
    return {str(row["field"]): row["value"] for row in rows}


def test_each_reason_is_told_with_its_count_and_source(make_bundle: Any) -> None:
    advice = [{"kind": "wide", "what": "linear is wide", "count": 3, "source": "a guide"}]
    assert told(make_bundle, "one", json.dumps(advice))[FIELD] == "linear is wide (3): a guide"
    assert told(make_bundle, "none", "[]")[FIELD] == "nothing that is known to"


def test_a_bundle_without_it_tells_nothing(tiny_bundle: Any) -> None:
    assert FIELD not in {row["field"] for row in summary(tiny_bundle)}


@pytest.mark.parametrize("content", ["{", "[1]", '[{"what": "x"}]', '{"a": 1}'])
def test_a_damaged_one_is_refused(make_bundle: Any, content: str) -> None:
    with pytest.raises(IntegrityError, match="is damaged"):
        told(make_bundle, "odd", content)

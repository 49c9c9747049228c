"""The manifest's JSON Schema; `python -m edgeward.runtimes.bundle.schema` prints it."""

from __future__ import annotations

import json
import sys
from typing import Any

from .manifest import SCHEMA_MAJOR, Manifest, schema_version

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def manifest_json_schema() -> dict[str, Any]:
    """Return the schema (JSON Schema 2020-12) that every manifest of this major version follows.

    A reader checks more: that paths stay inside, do not collide and name the files that are there.
    """
    schema = Manifest.model_json_schema()
    described = f"manifest.json of an edgeward bundle, schema {schema_version()}. "
    described += (
        f"Versions {SCHEMA_MAJOR}.x may add fields: a reader ignores those it does not know."
    )
    return {"$schema": DIALECT, **schema, "title": "edgeward manifest", "description": described}


def schema_text() -> str:
    """Return the schema as the published file has it."""
    return json.dumps(manifest_json_schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())

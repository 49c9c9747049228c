"""Where a bundle keeps its golden inputs."""

from __future__ import annotations

CASES_NAME = "golden/cases.json"
REFERENCE_NAME = "golden/reference.safetensors"
MAX_CASES_BYTES = 8 << 20

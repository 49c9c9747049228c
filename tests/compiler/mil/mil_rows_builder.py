from __future__ import annotations
from mil_rows import Row
BUILT: dict[str, list[Row]] = {}

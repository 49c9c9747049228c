from typing import Any
def read_compressed(folder: Any, config: Any, weights: Any) -> Any:
    return None

"""The two devices of the demo: this machine as a kiosk, and a Jetson that is played.

The played Jetson runs in an environment of its own with the engine that JetPack 6 has (ONNX
Runtime 1.23.2), and its agent.json carries what the probe finds on such a board.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

from edgeward.compiler.cache_dir import cache_root

ROOT = Path(__file__).resolve().parents[2]
JETSON_LOCK = ROOT / "locks" / "jetson.txt"
JETSON_FINGERPRINT: dict[str, str | int] = {
    "arch": "aarch64",
    "cpu_model": "Cortex-A78AE",
    "device_tree_model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
    "l4t_release": "36.4.4",
    "gpu_name": "Orin",
    "compute_capability": "8.7",
    "memory_bytes": 7_990_140_928,
    "cores": 6,
}


@dataclass(frozen=True)
class Device:
    """An agent's id, its folder, its Python, and what overrides its probe."""

    id: str
    home: Path
    target: str
    python: Path | None = None
    fingerprint: dict[str, str | int] = field(default_factory=dict)

    def pretend(self) -> None:
        """Write the played fingerprint into agent.json."""
        path = self.home / "agent.json"
        settings = json.loads(path.read_text())
        path.write_text(json.dumps({**settings, "fingerprint": self.fingerprint}))


def devices(folder: Path) -> list[Device]:
    """Return both devices, making the Jetson's environment the first time."""
    return [
        Device("kiosk-1", folder / "kiosk-1", "kiosk-x86"),
        Device(
            "jetson-1",
            folder / "jetson-1",
            "jetson-orin-nano",
            _jetson_python(),
            JETSON_FINGERPRINT,
        ),
    ]


def _jetson_python() -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache_root() / "demo" / f"jetson-{version}"
    python, ready = folder / "bin" / "python", folder / ".ready"
    lock = JETSON_LOCK.read_text() + str(ROOT)
    if not ready.is_file() or ready.read_text() != lock:
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
        subprocess.run([*pip, "-c", str(JETSON_LOCK), "-e", f"{ROOT}[agent,onnx]"], check=True)
        ready.write_text(lock)
    return python

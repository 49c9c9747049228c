"""What an engine is built for: the GPU, its driver and the libraries, in one digest."""

from __future__ import annotations

import ctypes
import platform
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeward.errors import MissingError
from edgeward.runtimes.bundle.canonical import digest
from edgeward.runtimes.engines.cuda import open_library

ROOT = Path("/")
ASK_SECONDS = 20.0
_SMI = ("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader")
_LIBRARIES = ("libcuda.so.1", "libcuda.so")
# https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TYPES.html, CUdevice_attribute
_MAJOR, _MINOR = 75, 76
_DRIVER = re.compile(r"NVRM version:.*?\s([0-9]{3,4}(?:\.[0-9]{1,4}){1,3})\s")
_L4T = re.compile(r"R(\d{1,3}) \(release\), REVISION: (\d{1,3}(?:\.\d{1,3}){0,2})")
_CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")
_MAX_TEXT = 200


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU; an empty text where nobody says."""

    name: str
    compute_capability: str
    driver: str
    cuda: str


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a plan depends on: change any of it and the engine is built anew."""

    gpu: str
    compute_capability: str
    tensorrt: str
    driver: str
    cuda: str
    l4t: str
    arch: str

    @property
    def digest(self) -> str:
        """The sha256 of all of it, in hex."""
        return digest(asdict(self))

    @property
    def words(self) -> str:
        """Name it for people."""
        l4t = f", L4T {self.l4t}" if self.l4t else ""
        return f"{self.gpu} (sm {self.compute_capability}), TensorRT {self.tensorrt}{l4t}"


def find_hardware(tensorrt: str, root: Path = ROOT) -> Hardware:
    """Return what this machine builds for; MissingError where it has no NVIDIA GPU."""
    gpu = find_gpu(root)
    if gpu is None:
        raise MissingError(
            "No NVIDIA GPU here",
            why="neither its driver's library (libcuda) nor nvidia-smi answers",
            next="run it on the device; in a container: docker run --runtime nvidia …",
        )
    l4t = _L4T.search(_read(root / "etc/nv_tegra_release"))
    return Hardware(
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        tensorrt=tensorrt,
        driver=gpu.driver,
        cuda=gpu.cuda,
        l4t=f"{l4t[1]}.{l4t[2]}" if l4t else "",
        arch=platform.machine(),
    )


def find_gpu(root: Path = ROOT) -> Gpu | None:
    """Ask the driver, else nvidia-smi; None where neither answers."""
    return _by_library(root) or _by_program()


def _by_library(root: Path) -> Gpu | None:
    library = open_library(_LIBRARIES)
    if library is None or library.cuInit(0) != 0:
        return None
    device, major, minor, version = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(_MAX_TEXT)
    answers = (
        library.cuDeviceGet(ctypes.byref(device), 0),
        library.cuDeviceGetName(name, _MAX_TEXT, device),
        library.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
        library.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
        library.cuDriverGetVersion(ctypes.byref(version)),
    )
    if any(answers):
        return None
    driver = _DRIVER.search(_read(root / "proc/driver/nvidia/version"))
    return Gpu(
        name=_clean(name.value.decode("utf-8", "replace")),
        compute_capability=f"{major.value}.{minor.value}",
        driver=driver[1] if driver else "",
        cuda=f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def _by_program() -> Gpu | None:
    try:
        done = subprocess.run(
            _SMI, capture_output=True, timeout=ASK_SECONDS, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout[:65_536].decode("utf-8", "replace").strip().splitlines()
    words = [_clean(word) for word in lines[0].split(",")] if lines else []
    if len(words) != 3 or not _CAPABILITY.fullmatch(words[1]):
        return None
    return Gpu(words[0], words[1], words[2], "")


def _clean(text: str) -> str:
    return "".join(c for c in text if c.isprintable()).strip()[:_MAX_TEXT]


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(4096).decode("utf-8", "replace")
    except OSError:
        return ""

"""Ask this machine what it is: /proc, /sys, the device tree, L4T's release, nvidia-smi.

Everything is optional: what is not there is left out, and a machine that says nothing still gets a
fingerprint. The kernel's files are read under `root`, programs are run through `run`.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .fingerprint import MAX_CORES, MAX_ITEMS, MAX_MEMORY_BYTES, Fingerprint
from .sysfs import clean, fields_of, read_int, read_text

Run = Callable[[Sequence[str]], "str | None"]

RUN_TIMEOUT_S = 5.0
ROOT = Path("/")
FLAGS = (
    *("sse4_2", "avx", "avx2", "f16c", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512vl"),
    *("avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "fphp", "asimddp", "i8mm", "bf16", "sve", "sve2", "atomics"),
)
# https://github.com/torvalds/linux/blob/master/arch/arm64/include/asm/cputype.h
ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}
# The integrated GPUs of NVIDIA's SoCs, where nvidia-smi says little or is absent.
TEGRA_GPUS = {
    "nvidia,tegra194": ("Xavier (Volta)", "7.2"),
    "nvidia,tegra234": ("Orin (Ampere)", "8.7"),
}
ENGINES = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-qnn"),
    "litert": ("ai-edge-litert",),
    "llama": ("llama-cpp-python",),
    "tensorrt": ("tensorrt",),
}
SMI_QUERY = (
    "nvidia-smi",
    "--query-gpu=name,compute_cap,driver_version,memory.total",
    "--format=csv,noheader,nounits",
)
MEMORY_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")
_NVINFER = "usr/lib/*-linux-gnu/libnvinfer.so.*.*.*"
_NVINFER_NAME = re.compile(r"libnvinfer\.so\.([0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})")
_L4T = re.compile(r"R(\d{1,3}) \(release\), REVISION: (\d{1,3}(?:\.\d{1,3}){0,2})")
_VERSION = re.compile(r"[0-9][0-9.]{0,30}")
_MEBIBYTES = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class _Gpu:
    name: str | None = None
    capability: str | None = None
    driver: str | None = None
    memory_bytes: int | None = None


def probe(root: Path = ROOT, run: Run | None = None) -> Fingerprint:
    """Return this machine's fingerprint, or that of the tree under `root`.

    Programs (nvidia-smi, sysctl) are asked on the live system only, unless `run` is given.
    """
    live = root == ROOT
    ask = run or (run_program if live else _ask_nobody)
    cpu = read_text(root, "proc/cpuinfo") or ""
    compatible = _compatible(root)
    gpu = _gpu(ask, compatible)
    return Fingerprint(
        arch=_arch(root, cpu),
        os=_os(root),
        kernel=clean(read_text(root, "proc/sys/kernel/osrelease")) or _live(live, platform.release),
        cpu_model=_cpu_model(cpu, ask),
        cores=_cores(cpu, live),
        memory_bytes=_memory(root, ask),
        cpu_flags=_flags(cpu),
        device_tree_model=clean(read_text(root, "proc/device-tree/model")),
        device_tree_compatible=compatible,
        l4t_release=_l4t(root),
        gpu_name=gpu.name,
        gpu_memory_bytes=gpu.memory_bytes,
        compute_capability=gpu.capability,
        driver_version=gpu.driver,
        python_version=platform.python_version(),
        engines={**_tensorrt(root), **installed_engines()},
    )


def run_program(command: Sequence[str]) -> str | None:
    """Return a program's output, or None where it is absent, fails or takes too long."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=RUN_TIMEOUT_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout[:65536].decode("utf-8", errors="replace")


def installed_engines() -> dict[str, str]:
    """Return the inference engines in this environment, name -> version, importing none."""
    found = {}
    for engine, distributions in ENGINES.items():
        versions = [version for each in distributions if (version := _version_of(each))]
        if versions:
            found[engine] = versions[0]
    return found


def _tensorrt(root: Path) -> dict[str, str]:
    """TensorRT's version from its library's name: trtexec builds without a Python package."""
    names = [path.name for path in root.glob(_NVINFER)]
    found = sorted(found[1] for name in names if (found := _NVINFER_NAME.fullmatch(name)))
    return {"tensorrt": found[-1]} if found else {}


def _version_of(distribution: str) -> str | None:
    from importlib import metadata

    try:
        return clean(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return None


def _ask_nobody(_command: Sequence[str]) -> str | None:
    return None


def _live(live: bool, ask: Callable[[], str]) -> str:
    return (clean(ask()) if live else None) or "unknown"


def _arch(root: Path, cpu: str) -> str:
    """The tree's own word comes first: under emulation and in captures it is the right one."""
    said = clean(read_text(root, "proc/sys/kernel/arch"))
    if said:
        return said
    if root != ROOT:
        return "aarch64" if "CPU implementer" in cpu else "x86_64"
    machine = platform.machine().lower()
    return {"amd64": "x86_64"}.get(machine, machine) or "unknown"


def _os(root: Path) -> str:
    release = read_text(root, "etc/os-release")
    pretty = fields_of(release, "=").get("PRETTY_NAME", "").strip("\"'") if release else ""
    return clean(pretty) or _live(root == ROOT, platform.platform)


def _cpu_model(cpu: str, ask: Run) -> str:
    fields = fields_of(cpu)
    named = clean(fields.get("model name"))
    if named:
        return named
    parts = sorted(set(re.findall(r"^CPU part\s*: (0x[0-9a-f]{3})$", cpu, re.MULTILINE)))
    if parts:
        return " + ".join(ARM_PARTS.get(part, f"ARM part {part}") for part in parts[:4])
    return clean(ask(("sysctl", "-n", "machdep.cpu.brand_string"))) or "unknown"


def _cores(cpu: str, live: bool) -> int:
    listed = len(re.findall(r"^processor\s*:", cpu, re.MULTILINE))
    return min(listed or (os.cpu_count() if live else None) or 1, MAX_CORES)


def _flags(cpu: str) -> tuple[str, ...]:
    fields = fields_of(cpu)
    said = set((fields.get("flags") or fields.get("Features") or "").split())
    return tuple(flag for flag in FLAGS if flag in said)


def _memory(root: Path, ask: Run) -> int:
    total = fields_of(read_text(root, "proc/meminfo") or "").get("MemTotal", "")
    kibibytes = re.fullmatch(r"([0-9]{1,15}) kB", total)
    memory = int(kibibytes[1]) * 1024 if kibibytes else _sysctl_memory(ask)
    limits = [limit for path in MEMORY_LIMITS if (limit := read_int(root, path) or 0) > 0]
    return max(1, min([memory, MAX_MEMORY_BYTES, *limits]))


def _sysctl_memory(ask: Run) -> int:
    said = (ask(("sysctl", "-n", "hw.memsize")) or "").strip()
    return int(said) if re.fullmatch(r"[0-9]{1,16}", said) else 1


def _compatible(root: Path) -> tuple[str, ...]:
    said = read_text(root, "proc/device-tree/compatible") or ""
    words = [clean(word) for word in said.split("\0")[:MAX_ITEMS]]
    return tuple(word for word in words if word)


def _l4t(root: Path) -> str | None:
    """Return "36.4.3" from `# R36 (release), REVISION: 4.3, …`."""
    found = _L4T.search(read_text(root, "etc/nv_tegra_release") or "")
    return f"{found[1]}.{found[2]}" if found else None


def _gpu(ask: Run, compatible: Sequence[str]) -> _Gpu:
    """Return what the first GPU says of itself; a Jetson's shares the board's memory."""
    lines = (ask(SMI_QUERY) or "").strip().splitlines()
    said = [clean(word) for word in lines[0].split(",")] if lines else []
    name, capability, driver, memory = said if len(said) == 4 else (None,) * 4
    tegra = next((TEGRA_GPUS[word] for word in compatible if word in TEGRA_GPUS), (None, None))
    is_known = name is not None and "[N/A]" not in name
    return _Gpu(
        name if is_known else tegra[0],
        _version(capability) or tegra[1],
        _version(driver),
        int(memory) << 20 if memory and _MEBIBYTES.fullmatch(memory) else None,
    )


def _version(text: str | None) -> str | None:
    return text if text and _VERSION.fullmatch(text) else None

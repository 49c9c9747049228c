"""A server's GPU is known by its name: others share its compute capability."""

from __future__ import annotations

import pytest

from edgeward.targets.fingerprint import Fingerprint
from edgeward.targets.load import load
from edgeward.targets.match import best


@pytest.mark.parametrize(
    ("name", "capability", "target"),
    [
        ("NVIDIA H200", "9.0", "h200"),
        ("NVIDIA H100 80GB HBM3", "9.0", "h100"),
        ("NVIDIA GH200 480GB", "9.0", None),
        (None, "9.0", None),
        ("NVIDIA L4", "8.9", "l4"),
        ("NVIDIA L40S", "8.9", None),
        ("NVIDIA GeForce RTX 4090", "8.9", None),
        ("NVIDIA A100-SXM4-80GB", "8.0", "a100"),
        ("Tesla T4", "7.5", "t4"),
    ],
)
def test_gpus_of_one_capability_are_told_by_their_name(
    name: str | None, capability: str, target: str | None
) -> None:
    here = Fingerprint(
        arch="x86_64",
        os="Linux",
        kernel="6.6",
        cpu_model="EPYC",
        cores=16,
        memory_bytes=128 << 30,
        gpu_name=name,
        compute_capability=capability,
    )
    gpus = [load(each) for each in ("a100", "a10g", "b200", "h100", "h200", "l4", "t4")]
    found = best(gpus, here)
    assert (found.name if found else None) == target

"""What every test may use: one thread an engine, tiny real bundles, a cache of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tiny_model import make_tiny_bundle

from edgeward.runtimes.bundle.read import Bundle

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Started in the background of a script, this process would ignore Ctrl-C, and its children too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test says how fast the machine is.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

BundleMaker = Callable[..., Bundle]


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A whole, real, tiny bundle; read it, never write to it."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def make_bundle(tmp_path: Path) -> BundleMaker:
    """Makes tiny bundles: `make_bundle("name", target=..., noise=...)`."""

    def make(name: str, **options: object) -> Bundle:
        return make_tiny_bundle(tmp_path / "bundles" / name, **options)  # type: ignore[arg-type]

    return make

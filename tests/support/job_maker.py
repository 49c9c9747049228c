"""What plans a job of a test: a model's folder, a precision, and the format's options by name."""

from __future__ import annotations

from collections.abc import Callable

from edgeward.compiler.formats.base import Job

JobMaker = Callable[..., Job]

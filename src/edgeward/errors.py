"""Every error that edgeward raises on purpose, each with its exit code.

::

    EdgewardError                    1  failed
    +-- UsageError                   2  the request itself is wrong
    +-- ProofError                   3  the artifact departs from the original
    +-- DoesNotFitError              4  the device cannot hold or run it
    +-- MissingError                 5  a toolchain or an engine is not there
    |   +-- ToolchainError
    |   +-- EngineError
    +-- TrustError                   6  refused: signature, digest, downgrade
    +-- SourceError                  1  the model folder or hub id cannot be read
    +-- UnsupportedError             1  known from the configuration alone
    +-- BundleError                  1  a bundle that is not what it claims
    |   +-- ManifestError
    |   +-- UnsafePathError
    |   +-- IntegrityError
    +-- ProfileError                 1  a target profile that cannot be read
    +-- StageError                   1  a stage of a compile failed
    |   +-- StageCrashedError
    |   +-- StageLimitError
    +-- BuildError                   1  the device's engine could not be built
    +-- ProtocolError                1  a fleet message that cannot be accepted
    +-- TransferError                1  a download that did not complete
    +-- FleetError                   1  the controller cannot do what was asked

An error says *what* happened, *why*, and the command to run *next*.
"""

from __future__ import annotations


class EdgewardError(Exception):
    """Base of the tree: what went wrong, why, and what to run next."""

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", next: str = "") -> None:  # noqa: A002
        super().__init__(what)
        self.what = what
        self.why = why
        self.next = next

    def __str__(self) -> str:
        """Return the whole message, one part a line."""
        lines = [self.what]
        if self.why:
            lines.append(f"  {self.why}")
        if self.next:
            lines.append(f"  Next: {self.next}")
        return "\n".join(lines)


class UsageError(EdgewardError):
    """The request itself is wrong: an unknown name, a contradiction."""

    exit_code = 2


class ProofError(EdgewardError):
    """An artifact departs from the original by more than its tolerance."""

    exit_code = 3


class DoesNotFitError(EdgewardError):
    """The device has not the memory, the disk or the operators for it."""

    exit_code = 4


class MissingError(EdgewardError):
    """Something that would do the work is not installed."""

    exit_code = 5


class ToolchainError(MissingError):
    """A converter's environment is missing or cannot be made."""


class EngineError(MissingError):
    """An inference engine is missing or refuses to load."""


class TrustError(EdgewardError):
    """Refused: a signature, a digest or a generation that cannot be trusted."""

    exit_code = 6


class SourceError(EdgewardError):
    """A model folder or hub id that cannot be read."""


class UnsupportedError(EdgewardError):
    """An architecture, task or precision that is not supported."""


class BundleError(EdgewardError):
    """A bundle that is not what it claims to be."""


class ManifestError(BundleError):
    """A manifest that cannot be read or has an unknown schema."""


class UnsafePathError(BundleError):
    """A path that leaves the bundle, a link, a special file."""


class IntegrityError(BundleError):
    """A file whose size or digest is not the manifest's."""


class ProfileError(EdgewardError):
    """A target profile that cannot be read."""


class StageError(EdgewardError):
    """A stage of a compile failed."""


class StageCrashedError(StageError):
    """The stage's process died without an answer."""


class StageLimitError(StageError):
    """The stage went over its time or memory limit."""


class BuildError(EdgewardError):
    """The device's engine could not be built from a bundle."""


class ProtocolError(EdgewardError):
    """A fleet message that cannot be accepted."""


class TransferError(EdgewardError):
    """A download that did not complete."""


class FleetError(EdgewardError):
    """The controller cannot do what was asked."""

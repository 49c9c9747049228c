"""RESOLVE: from a release to this device's bundle."""

from __future__ import annotations

from edgeward.errors import ManifestError, TrustError
from edgeward.runtimes.bundle.canonical import parse

from ...protocol.documents import State
from ...protocol.release import Release
from ...trust.envelope import envelope_digest, unseal
from ..choose import choose
from ..machine import Event
from ..rules import check_release
from ..work import Result, Step, Work


class Resolve(Step):
    """Fetches the release, believes it only with a release key's signature, picks the variant."""

    state = State.RESOLVE

    def run(self, work: Work) -> Result | None:
        """Add the variant and the release's sequence to the update."""
        update = work.update
        release = read_release(work, work.controller.release(update.release.digest))
        check_release(release, update)
        variant = choose(release, work.device)
        known = update.model_copy(update={"sequence": release.sequence, "variant": variant})
        return Result(Event.DONE, {"update": known})


def read_release(work: Work, data: bytes) -> Release:
    """Return the release that the update names; TrustError where it is not that one."""
    try:
        envelope = parse(data, "release")
    except ManifestError as error:
        raise TrustError(error.what, why=error.why) from None
    release = unseal(envelope, Release, work.trust.release)
    digest = envelope_digest(envelope)
    if digest != work.update.release.digest:
        raise TrustError(
            "The controller sent another release than the one that is desired",
            why=f"its digest is {digest[:12]}, not {work.update.release.digest[:12]}",
        )
    return release

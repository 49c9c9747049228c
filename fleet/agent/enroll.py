"""Joining a fleet: who the device is, whom it asks, whose keys it pins."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from edgeward.errors import FleetError, UsageError
from edgeward.runtimes.bundle.manifest import reason

from .config import AgentConfig, TrustFile, parse_trust, save, trust_of
from .controller import Controller
from .fetch import Fetcher
from .home import Home, unwritable


def enroll(
    home: Home,
    fetcher: Fetcher,
    *,
    controller: str,
    device: str,
    target: str | None = None,
    release_keys: Sequence[str] = (),
    controller_keys: Sequence[str] = (),
    poll_seconds: float | None = None,
) -> TrustFile:
    """Write agent.json and trust.json; keys that are not given are taken on trust, this once.

    Raises FleetError where the home is enrolled already, TrustError for a key that is none,
    TransferError where the controller does not answer.
    """
    if home.config.exists():
        raise FleetError(
            f"{home.root} is enrolled already",
            why="another identity would need another home",
            next=f"edgeward agent status --home {home.root}",
        )
    if bool(release_keys) != bool(controller_keys):
        raise UsageError(
            "Pin both kinds of keys or neither",
            why="with one of them taken on trust, the other pins nothing",
            next="edgeward agent enroll --release-key HEX --controller-key HEX …",
        )
    config = _config(controller, device, target, poll_seconds)
    trust = parse_trust(Controller(fetcher).trust())
    if release_keys:
        pinned = {"release_keys": list(release_keys), "controller_keys": list(controller_keys)}
        trust = trust.model_copy(update=pinned)
        trust_of(trust)
    try:
        home.root.mkdir(parents=True, exist_ok=True)
        save(home, home.trust.name, trust)
        save(home, home.config.name, config.model_copy(update={"mqtt": trust.mqtt}))
    except OSError as error:
        raise unwritable(home.root, error) from None
    return trust


def _config(
    controller: str, device: str, target: str | None, poll_seconds: float | None
) -> AgentConfig:
    polling = {} if poll_seconds is None else {"poll_seconds": poll_seconds}
    try:
        return AgentConfig.model_validate(
            {"controller": controller, "device": device, "target": target, **polling}
        )
    except ValidationError as error:
        raise UsageError("The device cannot be enrolled like this", why=reason(error)) from None

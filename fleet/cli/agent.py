"""`edgeward agent`: enrol a device, run its agent, look at it."""

from __future__ import annotations

from pathlib import Path

import click

HOME = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/var/lib/edgeward"),
    show_default=True,
    help="The device's folder.",
)


@click.group("agent")
def agent_group() -> None:
    """Run the agent on a device."""


@agent_group.command("enroll")
@HOME
@click.option("--controller", required=True, metavar="URL", help="The fleet's controller.")
@click.option("--id", "device", required=True, metavar="ID", help="What the device is called.")
@click.option("--target", metavar="NAME", help="The target that it is; default: probed.")
@click.option("--release-key", "release_keys", multiple=True, metavar="HEX", help="Pin this key.")
@click.option(
    "--controller-key", "controller_keys", multiple=True, metavar="HEX", help="Pin this key."
)
def enroll_command(
    home: Path,
    controller: str,
    device: str,
    target: str | None,
    release_keys: tuple[str, ...],
    controller_keys: tuple[str, ...],
) -> None:
    """Join a fleet: write the device's settings and the keys that it trusts from now on.

    Without keys on the command line, those that the controller offers are taken on trust.
    """
    from ..agent.enroll import enroll
    from ..agent.fetch import HttpFetcher
    from ..agent.home import Home

    trust = enroll(
        Home(home),
        HttpFetcher(controller),
        controller=controller,
        device=device,
        target=target,
        release_keys=release_keys,
        controller_keys=controller_keys,
    )
    how = "pinned as given" if release_keys else "taken from the controller, on trust"
    click.echo(f"{device} is enrolled in {home}; keys {how}:", err=True)
    for key in trust.release_keys:
        click.echo(f"  release    {key}", err=True)
    for key in trust.controller_keys:
        click.echo(f"  controller {key}", err=True)
    click.echo(f"Next: edgeward agent run --home {home}", err=True)


@agent_group.command("run")
@HOME
@click.option(
    "--poll-seconds",
    type=click.FloatRange(0.05, 86_400),
    help="How often to ask the controller; default: agent.json's.",
)
@click.option("--once", is_flag=True, help="End when nothing is left to do.")
def run_command(home: Path, poll_seconds: float | None, once: bool) -> None:
    """Run the agent until it is told to stop."""
    from ..agent.service import open_agent, run

    run(open_agent(home, poll_seconds=poll_seconds), once=once)


@agent_group.command("status")
@HOME
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def status_command(home: Path, output: str) -> None:
    """Show where the running agent stands."""
    from edgeward.runtimes.output import print_json, print_rows

    from ..agent.health import read_status
    from ..agent.home import Home
    from ..agent.report import status_rows

    document = read_status(Home(home))
    if output == "json":
        print_json(document)
    else:
        print_rows(status_rows(document), ["what", "value"], "table")


@agent_group.command("health")
@HOME
def health_command(home: Path) -> int:
    """Exit with 0 where the agent is at work and its model answers, with 1 otherwise."""
    from ..agent.clock import SystemClock
    from ..agent.config import load_config
    from ..agent.health import check_health
    from ..agent.home import Home

    place = Home(home)
    health = check_health(place, load_config(place), SystemClock())
    click.echo(health.words)
    return 0 if health.well else 1

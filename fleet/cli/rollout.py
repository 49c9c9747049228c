"""`edgeward fleet rollout`: create, list, show, watch, halt, resume."""

from __future__ import annotations

from pathlib import Path

import click

from .units import duration, home_option, output_option, shares

COLUMNS = ("id", "model", "version", "to", "phase", "wave", "devices", "committed", "failed")


@click.group("rollout")
def rollout_group() -> None:
    """Roll releases out in waves."""


@rollout_group.command("create")
@click.argument("model")
@click.argument("version")
@click.option("--to", required=True, help="all, ID[,ID] or label:NAME.")
@click.option("--waves", type=shares, default="50%,100%", show_default=True)
@click.option("--soak", type=duration, default="60s", show_default=True, help="On each device.")
@click.option("--wave-soak", type=duration, default="0s", help="Least age of a wave.")
@click.option(
    "--timeout",
    type=duration,
    default="1h",
    show_default=True,
    help="Silence for this long counts as a failure.",
)
@click.option("--max-failures", type=click.IntRange(0), default=0, show_default=True)
@click.option("--max-error-rate", type=click.FloatRange(0, 1), default=0.02, show_default=True)
@click.option("--min-sample", type=click.IntRange(1), help="Pass once so many have committed.")
@click.option("--allow-degraded", is_flag=True, help="Devices may take bundles that fell short.")
@home_option
def create(
    model: str,
    version: str,
    to: str,
    waves: list[float],
    soak: float,
    wave_soak: float,
    timeout: float,
    max_failures: int,
    max_error_rate: float,
    min_sample: int | None,
    allow_degraded: bool,
    home: Path,
) -> None:
    """Roll MODEL VERSION out to devices, wave by wave."""
    from ..control.client import Client

    request = {
        "model": model,
        "version": version,
        "to": to,
        "waves": waves,
        "soak_seconds": soak,
        "min_soak_seconds": wave_soak,
        "wave_timeout_seconds": timeout,
        "max_failures": max_failures,
        "max_error_rate": max_error_rate,
        "min_sample": min_sample,
        "allow_degraded": allow_degraded,
    }
    click.echo(Client.of_home(home).create_rollout(request)["id"])


@rollout_group.command("list")
@home_option
@output_option
def list_rollouts(home: Path, output: str) -> None:
    """List the rollouts, oldest first."""
    from edgeward.runtimes.output import print_rows

    from ..control.client import Client

    print_rows(Client.of_home(home).rollouts(), COLUMNS, output)


@rollout_group.command("show")
@click.argument("rollout")
@home_option
def show(rollout: str, home: Path) -> None:
    """Show a rollout with its devices and its timeline, as JSON."""
    from edgeward.runtimes.output import print_json

    from ..control.client import Client

    print_json(Client.of_home(home).rollout(rollout))


@rollout_group.command("watch")
@click.argument("rollout", required=False)
@home_option
def watch(rollout: str | None, home: Path) -> None:
    """Watch a rollout until it ends: exits with 0 when it is complete, 1 when it was halted."""
    from ..control.client import Client
    from ..control.watch import follow

    is_complete = follow(Client.of_home(home), rollout, click.echo)
    click.get_current_context().exit(0 if is_complete else 1)


@rollout_group.command("halt")
@click.argument("rollout")
@click.option("--reason", default="halted by the operator", show_default=True)
@home_option
def halt(rollout: str, reason: str, home: Path) -> None:
    """Stop a rollout: devices that have not committed go back to what they had."""
    from ..control.client import Client

    click.echo(Client.of_home(home).halt(rollout, reason)["phase"])


@rollout_group.command("resume")
@click.argument("rollout")
@click.option("--retry-failed", is_flag=True, help="Offer the release to failed devices again.")
@home_option
def resume(rollout: str, retry_failed: bool, home: Path) -> None:
    """Go on with a halted rollout; devices that failed are passed over."""
    from ..control.client import Client

    click.echo(Client.of_home(home).resume(rollout, retry_failed)["phase"])

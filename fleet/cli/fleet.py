"""`edgeward fleet`: the controller, its devices, its rollouts."""

from __future__ import annotations

from pathlib import Path

import click

from .rollout import rollout_group
from .units import home_option, output_option

DEVICE_COLUMNS = (
    "id",
    "online",
    "state",
    "target",
    "model",
    "version",
    "outcome",
    "labels",
    "problem",
)
JOB_COLUMNS = ("id", "device", "action", "state", "problem")
STATS_COLUMNS = (
    "device",
    "bundle",
    "requests",
    "errors",
    "error_rate",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "load_p50_ms",
    "queue_p95_ms",
    "memory_bytes",
)


@click.group("fleet", context_settings={"help_option_names": ["-h", "--help"]})
def fleet_group() -> None:
    """Run the controller, roll out, watch."""


fleet_group.add_command(rollout_group)


@fleet_group.command("up")
@home_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback only for now.")
@click.option("--http-port", type=click.IntRange(0, 65_535), default=8040, show_default=True)
@click.option(
    "--mqtt-port",
    type=click.IntRange(0, 65_535),
    default=0,
    help="0 takes a free one and keeps it.",
)
@click.option(
    "--broker",
    default="embedded",
    show_default=True,
    help="embedded, mosquitto, or mqtt://HOST[:PORT] of one that runs.",
)
@click.option("--quota-gb", type=click.FloatRange(min=0.001), help="Bound on all files together.")
def up(
    home: Path, host: str, http_port: int, mqtt_port: int, broker: str, quota_gb: float | None
) -> None:
    """Start broker, controller and file server in this process, until Ctrl-C."""
    from ..control.up import Options, run

    quota = None if quota_gb is None else int(quota_gb * 1e9)
    run(
        Options(home, host, http_port, mqtt_port, broker, quota),
        lambda line: click.echo(line, err=True),
    )


@fleet_group.command("status")
@home_option
def status(home: Path) -> None:
    """Show whether the controller is up, and its figures."""
    from edgeward.runtimes.output import print_json

    from ..control.client import Client

    client = Client.of_home(home)
    print_json({"http": client.url, **client.status()})


@fleet_group.command("stats")
@home_option
@output_option
@click.option("--by", type=click.Choice(["device", "bundle", "device,bundle"]))
def stats(home: Path, output: str, by: str | None) -> None:
    """Show latency, load, memory and errors of the last day by device and bundle."""
    from edgeward.runtimes.output import print_rows

    from ..control.client import Client

    by = by or "device,bundle"
    columns = [c for c in STATS_COLUMNS if c not in ("device", "bundle") or c in by.split(",")]
    print_rows(Client.of_home(home).stats(by), columns, output)


@fleet_group.group("jobs", invoke_without_command=True)
@home_option
@output_option
@click.option("--device", help="Those of one device.")
@click.pass_context
def jobs(context: click.Context, home: Path, output: str, device: str | None) -> None:
    """List the jobs that devices were asked for; show one."""
    if context.invoked_subcommand is not None:
        return
    from edgeward.runtimes.output import print_rows

    from ..control.client import Client

    print_rows(Client.of_home(home).jobs(device), JOB_COLUMNS, output)


@jobs.command("show")
@click.argument("job")
@home_option
def show_job(job: str, home: Path) -> None:
    """Show one job with what came of it, as JSON."""
    from edgeward.runtimes.output import print_json

    from ..control.client import Client

    print_json(Client.of_home(home).job(job))


@fleet_group.group("devices", invoke_without_command=True)
@home_option
@output_option
@click.pass_context
def devices(context: click.Context, home: Path, output: str) -> None:
    """List the devices; label, show or forget one."""
    if context.invoked_subcommand is not None:
        return
    from edgeward.runtimes.output import print_rows

    from ..control.client import Client

    print_rows(Client.of_home(home).devices(), DEVICE_COLUMNS, output)


@devices.command("show")
@click.argument("device")
@home_option
def show_device(device: str, home: Path) -> None:
    """Show one device with its whole report, as JSON."""
    from edgeward.runtimes.output import print_json

    from ..control.client import Client

    print_json(Client.of_home(home).device(device))


@devices.command("label")
@click.argument("device")
@click.argument("names", nargs=-1, required=True)
@click.option("--remove", is_flag=True, help="Take the labels off.")
@home_option
def label(device: str, names: tuple[str, ...], remove: bool, home: Path) -> None:
    """Label a device, so that rollouts can address label:NAME."""
    from ..control.client import Client

    client = Client.of_home(home)
    found = client.label(device, remove=names) if remove else client.label(device, add=names)
    click.echo(", ".join(found["labels"]))


@devices.command("forget")
@click.argument("device")
@home_option
def forget(device: str, home: Path) -> None:
    """Forget a device: after it was set up anew under its old name, or when it is gone."""
    from ..control.client import Client

    Client.of_home(home).forget(device)
    click.echo(f"forgot {device}", err=True)

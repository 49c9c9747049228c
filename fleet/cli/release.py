"""`edgeward release`: keys, releases."""

from __future__ import annotations

from pathlib import Path

import click

from .units import home_option, output_option

KEY_FOLDER = click.Path(file_okay=False, path_type=Path)
COLUMNS = ("model", "version", "sequence", "target", "format", "precision", "size", "bundle")


@click.group("release", context_settings={"help_option_names": ["-h", "--help"]})
def release_group() -> None:
    """Make and sign releases."""


@release_group.command("keygen")
@click.argument("folder", type=KEY_FOLDER)
def keygen(folder: Path) -> None:
    """Make a key pair to sign releases with."""
    from ..trust.keys import generate

    key = generate(folder).public
    click.echo(key.hex)
    click.echo(f"next: edgeward release trust {folder} --home FLEET_HOME", err=True)


@release_group.command("trust")
@click.argument("folder", type=KEY_FOLDER)
@home_option
def trust(folder: Path, home: Path) -> None:
    """Let the controller of a fleet home accept releases signed with this key."""
    from ..control.home import FleetHome
    from ..trust.keys import read_public

    path = FleetHome(home).trust_release_key(read_public(folder))
    click.echo(path)


@release_group.command("create")
@click.argument("model")
@click.argument("version")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--sign", "keys", required=True, type=KEY_FOLDER, help="The folder of the key.")
@click.option("--allow-degraded", is_flag=True, help="Take bundles that fell short of their proof.")
@click.option("--sequence", type=click.IntRange(0, 2**53), help="Default: one above the newest.")
@click.option("--notes", default="", help="A line for people.")
@home_option
def create(
    model: str,
    version: str,
    bundles: tuple[Path, ...],
    keys: Path,
    allow_degraded: bool,
    sequence: int | None,
    notes: str,
    home: Path,
) -> None:
    """Check BUNDLES, sign a release of them and bring it to the controller."""
    from ..control.client import Client
    from ..control.releases import create_release, next_sequence, publish
    from ..trust.keys import load

    key, client = load(keys), Client.of_home(home)
    number = next_sequence(client.releases(), model) if sequence is None else sequence
    sealed = create_release(
        model, version, bundles, key, sequence=number, allow_degraded=allow_degraded, notes=notes
    )
    publish(sealed, client, lambda line: click.echo(line, err=True))
    click.echo(sealed.digest)


@release_group.command("list")
@home_option
@output_option
def list_releases(home: Path, output: str) -> None:
    """List the releases and their variants."""
    from edgeward.runtimes.output import print_rows

    from ..control.client import Client
    from ..control.releases import variant_rows

    print_rows(variant_rows(Client.of_home(home).releases()), COLUMNS, output)


@release_group.command("show")
@click.argument("model")
@click.argument("version")
@home_option
def show(model: str, version: str, home: Path) -> None:
    """Show one release as JSON."""
    from edgeward.runtimes.output import print_json

    from ..control.client import Client
    from ..control.releases import find_release

    print_json(find_release(Client.of_home(home).releases(), model, version))

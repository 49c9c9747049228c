"""`edgeward targets`: list, show, probe and validate the devices we know."""

from __future__ import annotations

from pathlib import Path

import click

LIST_FORMS = ("table", "json", "jsonl", "csv")
SHOW_FORMS = ("table", "json", "toml")


@click.group("targets")
def targets_group() -> None:
    """List, show and probe the devices we know."""


@targets_group.command("list")
@click.option("-o", "--output", "form", type=click.Choice(LIST_FORMS), default="table")
def list_command(form: str) -> None:
    """List the targets that a model can be compiled for."""
    from edgeward.runtimes.output import print_rows

    from .present import LIST_COLUMNS, list_rows

    rows, broken = list_rows(for_people=form == "table")
    print_rows(rows, LIST_COLUMNS, form)
    for error in broken:
        click.echo(f"warning: {error}", err=True)


@targets_group.command("show")
@click.argument("name")
@click.option("-o", "--output", "form", type=click.Choice(SHOW_FORMS), default="table")
def show_command(name: str, form: str) -> None:
    """Show a target, by name or file: every number with its source."""
    from edgeward.runtimes.output import print_json, print_rows

    from .load import load
    from .present import SHOW_COLUMNS, show_rows
    from .write import to_toml

    profile = load(name)
    if form == "json":
        print_json({**profile.to_dict(), "digest": profile.digest})
    elif form == "toml":
        click.echo(to_toml(profile), nl=False)
    else:
        print_rows(show_rows(profile), SHOW_COLUMNS, form)


@targets_group.command("probe")
@click.option("-o", "--output", "file", default="-", show_default="standard output")
@click.option(
    "--fingerprint", "only_fingerprint", is_flag=True, help="Write the fingerprint's JSON."
)
def probe_command(file: str, only_fingerprint: bool) -> None:
    """Write a profile for this machine, ready to be corrected and used as a target."""
    from .destination import destination, put
    from .present import probed

    path = destination("", file)
    text, note = probed(only_fingerprint=only_fingerprint)
    click.echo(note, err=True)
    put(text, path)


@targets_group.command("validate")
@click.argument("file", type=click.Path(path_type=Path))
def validate_command(file: Path) -> None:
    """Check a profile's file and what it extends."""
    from .load import check_file

    profile = check_file(file)
    what = "a family, not a target" if profile is None else f"digest {profile.digest}"
    click.echo(f"{file}: valid, {what}")


@targets_group.command("calibrate")
@click.option("--name", default="this-machine", show_default=True, help="The profile's name.")
@click.option("--threads", type=click.IntRange(1, 4096), help="Threads to write the figures of.")
@click.option("--from-bench", "target", help="Correct this target from its devices' records.")
@click.option("--bundle", "bundles", multiple=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", "file", help="A file, - for standard output.  [default: yours]")
def calibrate_command(
    name: str,
    threads: int | None,
    target: str | None,
    bundles: tuple[Path, ...],
    file: str | None,
) -> None:
    """Measure this machine and keep its bandwidth, rates and kernels as a target of your own.

    With --from-bench nothing is measured: the shares of bandwidth and rate that the devices of a
    target reached, by the records of `bench --on`, stand over our profile from then on. --bundle
    says where a record's bundle lies, if it was moved.
    """
    if target is not None:
        from .bench.recalibrate import recalibrated

        recalibrated(target, bundles, file)
        return
    from .calibrate import calibrated
    from .destination import destination, put

    path = destination(name, file)
    text, said = calibrated(name, threads)
    click.echo(f"measured: {said}", err=True)
    put(text, path)


@targets_group.command("diff")
@click.argument("one")
@click.argument("other")
@click.option("-o", "--output", "form", type=click.Choice(LIST_FORMS), default="table")
def diff_command(one: str, other: str, form: str) -> None:
    """Show what two targets have not in common."""
    from edgeward.runtimes.output import print_rows

    from .load import load
    from .present import DIFF_COLUMNS, diff_rows

    print_rows(diff_rows(load(one), load(other)), DIFF_COLUMNS, form)

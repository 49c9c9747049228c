"""`edgeward doctor`."""

from __future__ import annotations

import sys

import click


@click.command("doctor")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--fix",
    "to_fix",
    is_flag=True,
    help="Make or repair the named toolchains (none named: the broken ones).",
)
@click.option("--prune", metavar="SIZE", help="Remove finished stages, oldest first, down to SIZE.")
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["table", "json", "jsonl", "csv"]),
    default="table",
    show_default=True,
    help="How to print.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def doctor_command(
    names: tuple[str, ...], to_fix: bool, prune: str | None, form: str, quiet: bool
) -> None:
    """Show what is installed and what is missing, with the command that makes it.

    Exit code 5 where a NAME (a toolchain or an extra) is missing or broken, 0 otherwise.
    """
    from edgeward.runtimes.output import print_rows

    from .. import doctor
    from ..progress import reporter_for
    from ..toolchains import Toolchains
    from ..words import size_words

    toolchains = Toolchains()
    with reporter_for(sys.stderr, quiet) as reporter:
        if prune is not None:
            freed = doctor.prune(doctor.parse_size(prune))
            reporter.note(f"freed {size_words(freed)}")
        if to_fix:
            doctor.fix(toolchains, names, reporter)
    findings = doctor.select(doctor.examine(toolchains), names)
    columns = doctor.COLUMNS if form == "table" else doctor.ALL_COLUMNS
    print_rows([finding.row() for finding in findings], columns, form)
    if names:
        doctor.require(findings)

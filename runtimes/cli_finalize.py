"""`edgeward finalize`."""

from __future__ import annotations

from pathlib import Path

import click

FORMS = click.Choice(["table", "json", "jsonl", "csv"])
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command("finalize")
@click.argument("bundles", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--engine",
    type=click.Choice(["tensorrt"]),
    default="tensorrt",
    show_default=True,
    expose_value=False,
    help="The only engine so far that is built on the device.",
)
@click.option(
    "--cache",
    type=FOLDER,
    help="Where engines are kept (the runtime looks in EDGEWARD_ENGINES); default: the user's.",
)
@click.option(
    "--workspace-mib", type=click.IntRange(1, 2**20), help="The most that one layer may borrow."
)
@click.option(
    "--max-seconds", type=click.FloatRange(1), default=7200.0, show_default=True, help="Time limit."
)
@click.option("--max-memory-gib", type=click.FloatRange(0.1), help="Memory limit of the build.")
@click.option("--dry-run", is_flag=True, help="Say what would be built here, and stop.")
@click.option("--list", "listed", is_flag=True, help="List the engines in the cache.")
@click.option("--clear-old", is_flag=True, help="Remove those that were built for another device.")
@click.option("-o", "--output", "form", type=FORMS, default="table", show_default=True)
def finalize_command(
    bundles: tuple[Path, ...],
    cache: Path | None,
    workspace_mib: int | None,
    max_seconds: float,
    max_memory_gib: float | None,
    dry_run: bool,
    listed: bool,
    clear_old: bool,
    form: str,
) -> None:
    """Build on this device what only it can build of each bundle: its TensorRT engine.

    A second run finds the engine; another GPU, driver or TensorRT builds anew.
    """
    from edgeward.errors import UsageError

    from .bundle.read import open_bundle
    from .finalize.build import Limits, finalize, plan_build
    from .finalize.place import engines_folder
    from .finalize.rows import (
        COLUMNS,
        LIST_COLUMNS,
        PLANNED_COLUMNS,
        finalized_row,
        listed_rows,
        planned_rows,
    )
    from .output import print_rows

    folder = cache or engines_folder()
    if not bundles and not (listed or clear_old):
        raise UsageError("No bundle is named", next="edgeward finalize BUNDLE")
    opened = [open_bundle(path) for path in bundles]
    if dry_run:
        rows = [row for one in opened for row in planned_rows(one, folder, workspace_mib)]
        print_rows(rows, PLANNED_COLUMNS, form)
        return
    if clear_old:
        _clear(folder)
    if listed:
        print_rows(listed_rows(folder), LIST_COLUMNS, form)
        return
    memory = int(max_memory_gib * 2**30) if max_memory_gib is not None else None
    limits = Limits(max_seconds, memory, workspace_mib)
    rows = [finalized_row(finalize(plan_build(one, folder), limits)) for one in opened]
    if rows:
        print_rows(rows, COLUMNS, form)


def _clear(folder: Path) -> None:
    from .finalize.builder import available, find_builder
    from .finalize.hardware import find_hardware
    from .finalize.place import clear_others

    hardware = find_hardware(find_builder(available()).version)
    gone = clear_others(folder, hardware.digest)
    click.echo(f"{len(gone)} engines of other devices removed", err=True)

"""`edgeward compile`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from .format_options import format_options, given_options


@click.command("compile")
@click.argument("model")
@click.option("-t", "--target", "targets", multiple=True, required=True, help="Repeatable.")
@click.option(
    "-p",
    "--precision",
    "precisions",
    default="default",
    show_default=True,
    help="One of the target's, auto (the fastest that passes), or a comma list.",
)
@click.option("--format", "format_name", help="The default is the target's own.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build"),
    show_default=True,
    help="The folder that the bundles go into.",
)
@click.option("--name", help="The bundles' name; the default is the model's.")
@click.option("--revision", help="A hub model's branch, tag or commit.")
@click.option("--task", help="What to compile it for, where its configuration says otherwise.")
@click.option(
    "--eval-data",
    type=click.Path(path_type=Path, exists=True),
    help="What to prove it on: texts (one a line, or JSON lines), pictures or WAV files (one, "
    "a folder, or JSON lines with image or audio paths; label and text are taken too).",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, exists=True),
    help="What shows int8-static what to expect, as for --eval-data.",
)
@click.option("--engine", help="The device's engine by name; the default is the target's own way.")
@click.option(
    "--range",
    "ranges",
    multiple=True,
    metavar="AXIS=MIN:OPT:MAX",
    help="How far an axis may go in an engine that the device builds; repeatable.",
)
@click.option("--portable", is_flag=True, help="Operators that any engine of the format runs.")
@click.option(
    "--shapes",
    help="Fixed shapes, as batch=1,sequence=128|256; the default is the target's.",
)
@click.option(
    "--budget",
    multiple=True,
    metavar="NAME=LIMIT",
    help="With --precision auto: memory=4GiB, size=2GB, kl=0.05, top1=0.9, perplexity=1.1, "
    "ttft=300ms, tpot=20ms; commas or repeated.",
)
@click.option("--context", type=click.IntRange(min=1), help="Tokens that the budget holds for.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the format's own; repeatable.",
)
@format_options
@click.option("--accept-degraded", is_flag=True, help="Package it though its proof fell short.")
@click.option("--ignore-plan", is_flag=True, help="Compile what the plan says does not fit.")
@click.option("--torch", "torch_build", help="The torch build: cpu (default), cu126, cu128, cu130.")
@click.option("--max-seconds", type=click.FloatRange(min=1), help="Time limit of each stage.")
@click.option("--max-memory-gib", type=click.FloatRange(min=0.1), help="Memory limit of a stage.")
@click.option("--dry-run", is_flag=True, help="Say what would be made, and stop.")
@click.option(
    "--report",
    "form",
    type=click.Choice(["table", "json", "jsonl", "csv"]),
    default="table",
    show_default=True,
    help="How the result is printed.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def compile_command(
    model: str,
    targets: tuple[str, ...],
    precisions: str,
    format_name: str | None,
    output: Path,
    name: str | None,
    revision: str | None,
    task: str | None,
    eval_data: Path | None,
    calibration: Path | None,
    engine: str | None,
    ranges: tuple[str, ...],
    portable: bool,
    shapes: str | None,
    budget: tuple[str, ...],
    context: int | None,
    options: tuple[str, ...],
    accept_degraded: bool,
    ignore_plan: bool,
    torch_build: str | None,
    max_seconds: float | None,
    max_memory_gib: float | None,
    dry_run: bool,
    form: str,
    quiet: bool,
    **of_formats: Any,
) -> None:
    """Compile MODEL (a folder, a GGUF file, a hub id) for targets, and prove each bundle."""
    from edgeward.compiler.budget import parse_budget
    from edgeward.compiler.compile import (
        CompileRequest,
        compile_model,
        plan_bundles,
    )
    from edgeward.compiler.format_options import parse_options
    from edgeward.compiler.limits import limits_of
    from edgeward.compiler.progress import reporter_for
    from edgeward.compiler.request import model_name
    from edgeward.compiler.rows import (
        COMPILED_COLUMNS,
        PLANNED_COLUMNS,
        compiled_row,
        planned_row,
    )
    from edgeward.runtimes.output import print_rows

    request = CompileRequest(
        model=model,
        targets=targets,
        output=output,
        precisions=tuple(part.strip() for part in precisions.split(",")),
        format=format_name,
        name=name,
        revision=revision,
        task=task,
        evaluation=eval_data,
        calibration=calibration,
        portable=portable,
        engine=engine,
        ranges=ranges,
        shapes=shapes,
        options={**parse_options(options), **given_options(of_formats)},
        budget=parse_budget(budget, context),
        accept_degraded=accept_degraded,
        ignore_plan=ignore_plan,
        limits=limits_of(max_seconds, max_memory_gib),
        torch_build=torch_build,
    )
    with reporter_for(sys.stderr, quiet) as reporter:
        if dry_run:
            source, plans = plan_bundles(request, reporter)
            rows = [planned_row(model_name(request, source), plan) for plan in plans]
            print_rows(rows, PLANNED_COLUMNS, form)
            return
        compiled = [compiled_row(one) for one in compile_model(request, reporter)]
    print_rows(compiled, COMPILED_COLUMNS, form)

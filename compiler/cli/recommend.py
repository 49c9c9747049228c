"""`edgeward recommend`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

OBJECTIVES = ("latency", "memory", "accuracy", "energy")


@click.command("recommend")
@click.argument("model")
@click.option("-t", "--target", required=True)
@click.option("--objective", type=click.Choice(OBJECTIVES), default="latency", show_default=True)
@click.option(
    "--within",
    multiple=True,
    metavar="NAME=LIMIT",
    help="What it has to keep: memory=4GiB, size=2GB, kl=0.05, top1=0.9, perplexity=1.1, "
    "ttft=300ms, tpot=20ms; commas or repeated.",
)
@click.option("--context", type=click.IntRange(min=1), help="Tokens that it is planned for.")
@click.option(
    "--most",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="How many recipes are compiled and measured.",
)
@click.option("--format", "format_name", help="This format alone.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build"),
    show_default=True,
    help="The folder that the bundle goes into.",
)
@click.option("--task", help="What it is for, where its configuration says otherwise.")
@click.option("--eval-data", type=click.Path(path_type=Path, exists=True), help="As for compile.")
@click.option("--picture", type=click.Path(path_type=Path), help="Write the Pareto picture as SVG.")
@click.option("--dry-run", is_flag=True, help="Say what would be tried, and stop.")
@click.option(
    "--report",
    "form",
    type=click.Choice(["table", "json", "jsonl", "csv"]),
    default="table",
    show_default=True,
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def recommend_command(
    model: str,
    target: str,
    objective: str,
    within: tuple[str, ...],
    context: int | None,
    most: int,
    format_name: str | None,
    output: Path,
    task: str | None,
    eval_data: Path | None,
    picture: Path | None,
    dry_run: bool,
    form: str,
    quiet: bool,
) -> None:
    """Find the recipe of MODEL that is best for a target, compile it, and show what else there is.

    Exit code 4 where nothing fits the target or keeps --within.
    """
    from edgeward.compiler.budget import parse_budget
    from edgeward.compiler.compile import CompileRequest, stage_runner
    from edgeward.compiler.progress import reporter_for
    from edgeward.compiler.recommend import recommend
    from edgeward.compiler.recommend_report import (
        CANDIDATE_COLUMNS,
        OUTCOME_COLUMNS,
        candidate_rows,
        outcome_rows,
        picture_of,
        said,
    )
    from edgeward.runtimes.output import print_rows

    request = CompileRequest(
        model=model,
        targets=(target,),
        output=output,
        format=format_name,
        task=task,
        evaluation=eval_data,
        budget=parse_budget(within, context),
    )
    if dry_run:
        print_rows(candidate_rows(request, objective), CANDIDATE_COLUMNS, form)
        return
    with reporter_for(sys.stderr, quiet) as reporter, stage_runner(request, reporter) as runner:
        found = recommend(request, objective, runner, most=most, reporter=reporter)
    print_rows(outcome_rows(found, objective), OUTCOME_COLUMNS, form)
    if picture is not None:
        picture.write_text(picture_of(found, objective, model), encoding="utf-8")
    if not quiet:
        click.echo(said(found, objective), err=True)

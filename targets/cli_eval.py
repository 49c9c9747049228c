"""`edgeward eval`: metrics on labelled data, gates for CI, and how sure a comparison is."""

from __future__ import annotations

from pathlib import Path

import click

FORMS = ("table", "json", "jsonl", "csv", "md")
PATH = click.Path(path_type=Path)


@click.command("eval")
@click.argument("bundle", type=PATH)
@click.option("--data", required=True, type=PATH, help="JSON lines, CSV, TSV, or a folder.")
@click.option(
    "-m", "--metric", "metrics", multiple=True, help="Repeatable, or commas.  [default: the task's]"
)
@click.option("--columns", help="Where names are others: text=review,label=stars.")
@click.option("--against", type=PATH, help="Another bundle of the task, on the same cases.")
@click.option("--check", "checks", multiple=True, help="A rule: pattern=REGEX, json-schema=FILE, …")
@click.option("--judge", "judge_url", help="Let a model grade: an OpenAI-compatible URL, …/v1.")
@click.option("--judge-model", default="", help="The judge's name there.")
@click.option("--judge-rubric", default="", help="What it grades by.")
@click.option(
    "--judge-key-env",
    default="EDGEWARD_JUDGE_KEY",
    show_default=True,
    help="The environment variable that holds its key.",
)
@click.option(
    "--judge-timeout", type=click.FloatRange(0.1, 3600), default=60.0, help="Seconds a question."
)
@click.option("--judge-retries", type=click.IntRange(0, 20), default=3, show_default=True)
@click.option("--fail-under", multiple=True, help="Exit code 3 below it: accuracy=0.9.")
@click.option("--fail-over", multiple=True, help="Exit code 3 above it: wer=0.1.")
@click.option("--junit", type=PATH, help="Write the figures and gates as JUnit XML.")
@click.option("--predictions", type=PATH, help="Keep them here; the same run goes on from there.")
@click.option("--limit", type=click.IntRange(1), help="So many rows alone.")
@click.option("--max-tokens", type=click.IntRange(1, 1_000_000), default=128, show_default=True)
@click.option("--system", help="What a chat model is told first.")
@click.option("--raw", is_flag=True, help="Prompts as they stand, without a chat template.")
@click.option("--language", help="What is spoken, for models of several languages.")
@click.option("--prompt", help="An embedding model's own prompt by its name, for queries.")
@click.option(
    "--window", type=click.IntRange(2, 1_000_000), default=512, help="Tokens of a perplexity."
)
@click.option("--resamples", type=click.IntRange(0, 1_000_000), default=1000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(0, 4096), default=0, help="0: the engine chooses.")
@click.option("--engine", help="Ask for an engine by name.")
@click.option("-o", "--output", "form", type=click.Choice(FORMS), default="table")
def eval_command(
    bundle: Path,
    data: Path,
    metrics: tuple[str, ...],
    columns: str | None,
    against: Path | None,
    checks: tuple[str, ...],
    judge_url: str | None,
    judge_model: str,
    judge_rubric: str,
    judge_key_env: str,
    judge_timeout: float,
    judge_retries: int,
    fail_under: tuple[str, ...],
    fail_over: tuple[str, ...],
    junit: Path | None,
    predictions: Path | None,
    limit: int | None,
    max_tokens: int,
    system: str | None,
    raw: bool,
    language: str | None,
    prompt: str | None,
    window: int,
    resamples: int,
    seed: int,
    threads: int,
    engine: str | None,
    form: str,
) -> None:
    """Tell BUNDLE's metrics on data with labels, references or scores.

    Columns have their names by convention (docs/evaluation.md). Exit code 3 where a figure misses
    its gate.
    """
    from edgeward.errors import ProofError

    from .evaluation.cases import Settings
    from .evaluation.checks import read_checks
    from .evaluation.evaluate import Asked, evaluate
    from .evaluation.gate import read_gates
    from .evaluation.judge import open_judge
    from .evaluation.junit import write_junit
    from .evaluation.show import failure_words, figure_row, render

    asked = Asked(
        metrics=_listed(metrics),
        gates=read_gates(_listed(fail_under), _listed(fail_over)),
        checks=read_checks(checks),
        judge=open_judge(
            judge_url, judge_model, judge_rubric, judge_key_env, judge_timeout, judge_retries
        ),
        settings=Settings(_columns(columns), max_tokens, system, raw, language, prompt, window),
        limit=limit,
        predictions=predictions,
        resamples=resamples,
        seed=seed,
        threads=threads,
        engine=engine,
    )
    found = evaluate(bundle, data, asked, against, _progress)
    click.echo(render(found, form), nl=False)
    if found.unjudged:
        click.echo(f"warning: {found.unjudged} answers have no verdict, counted as 0", err=True)
    if junit is not None:
        rows = [figure_row(figure) for figure in found.figures]
        write_junit(junit, bundle.absolute().name, found.seconds, rows)
    if found.missed:
        raise ProofError(failure_words(found), next="edgeward eval … --predictions FILE")


def _listed(given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.strip() for text in given for name in text.split(",") if name.strip())


def _columns(stated: str | None) -> dict[str, str]:
    named = {}
    for part in (stated or "").split(","):
        role, mark, column = (word.strip() for word in part.partition("="))
        if part.strip() and not (role and mark and column):
            raise click.BadParameter(f"{part!r} is not ROLE=COLUMN", param_hint="--columns")
        if role:
            named[role] = column
    return named


def _progress(name: str, done: int, cases: int) -> None:
    """A line that is written over, for people alone."""
    import sys

    if sys.stderr.isatty() and (done == cases or done % 8 == 0):
        click.echo(f"\r{name}: {done} of {cases} cases", nl=done == cases, err=True)

"""`edgeward plan`: will it fit, and how fast, before anything is compiled."""

from __future__ import annotations

from pathlib import Path

import click

FORMS = ("table", "json", "jsonl", "csv", "svg")
MOST = 10_000_000


@click.command("plan")
@click.argument("model")
@click.option("--target", "targets", multiple=True, help="A target, by name or file; repeatable.")
@click.option(
    "--context", type=click.IntRange(1, MOST), help="Tokens a sequence keeps.  [default: 4096]"
)
@click.option("--batch", type=click.IntRange(1, 65536), default=1, show_default=True)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 65536),
    default=1,
    show_default=True,
    help="Sequences at the same time.",
)
@click.option(
    "--prompt", type=click.IntRange(1, MOST), help="Tokens until the first is written. [512]"
)
@click.option("--cache", default="", help="Type of the cache: fp16, q8_0, q4_0, …")
@click.option("--precision", default="", help="This precision alone.")
@click.option("--revision", default="main", help="The hub's revision.")
@click.option(
    "--price",
    type=click.FloatRange(0, MOST, min_open=True),
    help="Dollars an hour of the one target.  [default: its profile's]",
)
@click.option("--all", "show_all", is_flag=True, help="Every recipe, not the best of each format.")
@click.option("-o", "--output", "form", type=click.Choice(FORMS), default="table")
@click.option("--picture", type=click.Path(path_type=Path), help="Write the memory as SVG, too.")
def plan_command(
    model: str,
    targets: tuple[str, ...],
    context: int | None,
    batch: int,
    concurrency: int,
    prompt: int | None,
    cache: str,
    precision: str,
    revision: str,
    price: float | None,
    show_all: bool,
    form: str,
    picture: Path | None,
) -> int:
    """Predict memory and speed of MODEL from its configuration and headers alone.

    Exit code 4 where nothing fits one of the named targets.
    """
    from .plan.report import report

    found = report(
        model,
        targets=targets,
        context=context,
        batch=batch,
        concurrency=concurrency,
        prompt=prompt,
        cache=cache,
        precision=precision,
        revision=revision,
        show_all=show_all,
        price=price,
    )
    click.echo(found.render(form), nl=False)
    if picture is not None:
        found.write_picture(picture)
        click.echo(f"written: {picture}", err=True)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    return found.exit_code

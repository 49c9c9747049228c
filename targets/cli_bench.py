"""`edgeward bench`: measure a bundle, and what is done with measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

FORMS = ("table", "json", "jsonl", "csv", "md")
HOME = "EDGEWARD_FLEET_HOME"
EXPORTS = ("csv", "json", "jsonl")
FIGURES = ("latency", "ttft", "tpot", "throughput", "decode", "rtf", "memory")


class BenchCommand(click.Command):
    """A command that is also the parent of others: `bench BUNDLE`, and `bench compare A B`.

    A click group would not take BUNDLE without a word before it, or its --help would not show the
    options. Here the first word decides before anything is parsed; a folder that has a verb's name
    is written as ./compare.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.commands: dict[str, click.Command] = {}

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Return the context of the verb that the first argument names, else of this command."""
        verb = self.commands.get(args[0]) if args else None
        if verb is None:
            return super().make_context(info_name, args, parent, **extra)
        name, prefix = f"{info_name} {args[0]}", parent and parent.auto_envvar_prefix
        if prefix:
            extra["auto_envvar_prefix"] = f"{prefix}_{name.replace(' ', '_').upper()}"
        return verb.make_context(name, args[1:], parent, **extra)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, then the verbs."""
        super().format_options(ctx, formatter)
        with formatter.section("Commands on what was measured"):
            rows = [(name, each.get_short_help_str()) for name, each in self.commands.items()]
            formatter.write_dl(rows)

    def add(self, verb: click.Command) -> click.Command:
        """Add a verb; a decorator."""
        self.commands[str(verb.name)] = verb
        return verb


@click.command("bench", cls=BenchCommand)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--scenario",
    default="SingleStream",
    show_default=True,
    help="SingleStream, Offline, Server, or a list of them.",
)
@click.option("--threads", default="0", show_default=True, help="Engine threads; 0: its choice.")
@click.option("--batch", default="1", show_default=True, help="Rows of a query.")
@click.option("--prompt", default="0", help="Tokens of each text.  [default: as they are]")
@click.option(
    "--gen",
    default="0",
    help="Tokens written.  [default: 64; what speech and text to text come to]",
)
@click.option("--data", type=click.Path(path_type=Path), help="Texts (.txt, .jsonl), WAV, picture.")
@click.option("--min-queries", type=int, default=16, show_default=True, help="The least queries.")
@click.option("--min-duration", type=float, default=3.0, show_default=True, help="Least seconds.")
@click.option("--mlperf", is_flag=True, help="MLPerf's own minima: 600 s, queries by scenario.")
@click.option("--qps", type=float, help="Server: queries a second.  [default: half of what it can]")
@click.option("--latency-bound", type=float, help="Server: what p99 has to keep, in ms.")
@click.option("--against", help="A bundle, or a command, measured in turn with this one.")
@click.option("--rounds", type=int, default=12, show_default=True, help="Turns of --against.")
@click.option("--on", "device", help="Measure on this device of the fleet, with what it has.")
@click.option("--wait", type=float, default=600.0, show_default=True, help="Seconds for --on.")
@click.option("--home", type=click.Path(path_type=Path), envvar=HOME, help="Fleet home, for --on.")
@click.option("--target", help="Predict for this target.  [default: this machine]")
@click.option("--memory", help='The most a child may take, as "4 GiB".  [default: what is free]')
@click.option("--timeout", type=float, default=3600.0, show_default=True, help="Seconds a child.")
@click.option("--python", help="An interpreter that has the bundle's engine.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of arrivals and intervals.")
@click.option("-o", "--output", "form", type=click.Choice(FORMS), default="table")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def bench_command(
    bundle: Path,
    form: str,
    quiet: bool,
    device: str | None,
    wait: float,
    home: Path | None,
    **options: Any,
) -> int:
    """Measure BUNDLE: latency, throughput, tokens/s, memory, load time, energy.

    Options that count take lists: --threads 1,2 --batch 1,8. Each combination runs in a process of
    its own and is kept; predicted and measured stand side by side. With --on BUNDLE may also be
    a digest, its beginning, or `active`; Ctrl-C leaves the jobs to the device.
    """
    from .bench.asked import Asked, measure, race

    asked = Asked(bundle=bundle, quiet=quiet, **options)
    if device is not None:
        from .bench.elsewhere import measure_on

        return measure_on(asked, device, home, wait, form)
    if asked.against is not None:
        click.echo(race(asked, form), nl=False)
        return 0
    return measure(asked, form)


@bench_command.add
@click.command("fetch")
@click.argument("jobs", nargs=-1, required=True)
@click.option("--wait", type=float, default=0.0, show_default=True, help="Seconds for all.")
@click.option("--home", type=click.Path(path_type=Path), envvar=HOME, help="The fleet home.")
@click.option("-o", "--output", "form", type=click.Choice(FORMS), default="table")
def fetch_command(jobs: tuple[str, ...], wait: float, home: Path | None, form: str) -> int:
    """Fetch and keep what came of JOBS that --on left to a device."""
    from .bench.elsewhere import fetch

    return fetch(jobs, home, wait, form)


@bench_command.add
@click.command("compare")
@click.argument("a")
@click.argument("b")
@click.option("-o", "--output", "form", type=click.Choice(FORMS), default="table")
def compare_command(a: str, b: str, form: str) -> None:
    """Compare two measurements: numbers, `last`, `last~1`, or bundles."""
    from .bench.compare import COLUMNS, compare_rows, unfair
    from .bench.present import render_table
    from .bench.store import Store, find

    records = Store().records()
    first, second = find(records, a), find(records, b)
    click.echo(render_table(compare_rows(first, second), COLUMNS, form), nl=False)
    for words in unfair(first, second):
        click.echo(f"warning: {words}", err=True)


@bench_command.add
@click.command("list")
@click.option("-o", "--output", "form", type=click.Choice(FORMS), default="table")
def list_command(form: str) -> None:
    """List what was measured on this machine."""
    from .bench.present import LIST_COLUMNS, list_rows, render_table
    from .bench.store import Store

    click.echo(render_table(list_rows(Store().records()), LIST_COLUMNS, form), nl=False)


@bench_command.add
@click.command("plot")
@click.argument("measurements", nargs=-1)
@click.option("--figure", type=click.Choice(FIGURES), default="latency", show_default=True)
@click.option("-o", "--output", "file", default="-", help="An SVG file.  [default: stdout]")
def plot_command(measurements: tuple[str, ...], figure: str, file: str) -> None:
    """Draw MEASUREMENTS (all where none is named) as an SVG."""
    from .bench.plot import picture
    from .bench.store import Store, find

    records = Store().records()
    chosen = [find(records, named) for named in measurements] or records
    _write(file, picture(chosen, figure))


@bench_command.add
@click.command("export")
@click.option("-o", "--output", "form", type=click.Choice(EXPORTS), default="json")
def export_command(form: str) -> None:
    """Write every measurement with all its figures."""
    from .bench.present import render
    from .bench.store import Store

    click.echo(render(Store().records(), form), nl=False)


def _write(file: str, text: str) -> None:
    from edgeward.errors import UsageError

    if file == "-":
        click.echo(text, nl=False)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written", why=error.strerror or str(error)) from error
    click.echo(f"written: {file}", err=True)

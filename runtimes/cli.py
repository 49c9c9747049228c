"""`edgeward verify`, `inspect` and `serve`."""

from __future__ import annotations

import json
from pathlib import Path

import click

FORMS = click.Choice(["table", "json", "jsonl", "csv"])
BUNDLE = click.Path(path_type=Path)


@click.command("verify")
@click.argument("bundles", nargs=-1, required=True, type=BUNDLE)
@click.option("-o", "--output", "form", type=FORMS, default="table", show_default=True)
@click.option("--threads", default=0, help="Engine threads; 0 lets the engine choose.")
@click.option("--engine", help="Ask for an engine by name; default: the best that is here.")
@click.option(
    "--bisect",
    "original",
    type=BUNDLE,
    help="A float bundle of the same model: name the layer where BUNDLE departs from it first.",
)
def verify_command(
    bundles: tuple[Path, ...],
    form: str,
    threads: int,
    engine: str | None,
    original: Path | None,
) -> None:
    """Run each bundle's golden inputs in its engine, against its own tolerances."""
    if original is not None:
        _bisect(bundles, original, form, threads)
        return
    from edgeward.errors import ProofError

    from .bundle.read import open_bundle
    from .output import print_rows
    from .proof.golden import run_golden
    from .proof.rows import check_rows, failure_words

    reports = [
        (path, run_golden(open_bundle(path), threads=threads, engine=engine)) for path in bundles
    ]
    rows = [row for path, report in reports for row in check_rows(path.absolute().name, report)]
    print_rows(rows, ["bundle", "metric", "value", "bound", "passed", "engine"], form)
    failed = [failure_words(path, report) for path, report in reports if not report.passed]
    if failed:
        raise ProofError("; ".join(failed), next="edgeward verify BUNDLE --bisect FLOAT_BUNDLE")


def _bisect(bundles: tuple[Path, ...], original: Path, form: str, threads: int) -> None:
    from .bundle.read import open_bundle
    from .output import print_rows
    from .proof.bisect import bisect_bundles
    from .proof.bisect_words import departure_rows, departure_words

    columns = ["bundle", "layer", "op", "tensor", "relative_error", "own_error", "first"]
    rows: list[dict[str, object]] = []
    for path in bundles:
        found = bisect_bundles(open_bundle(path), open_bundle(original), threads=max(threads, 1))
        click.echo(f"{path.absolute().name}: {departure_words(found)}", err=True)
        rows += [{"bundle": path.absolute().name, **row} for row in departure_rows(found)]
    print_rows(rows, columns, form)


@click.command("inspect")
@click.argument("bundle", type=BUNDLE)
@click.option("-o", "--output", "form", type=FORMS, default="table", show_default=True)
def inspect_command(bundle: Path, form: str) -> None:
    """Check a bundle's files and show what its manifest says."""
    from .bundle.read import open_bundle
    from .bundle.summary import summary
    from .output import print_rows

    opened = open_bundle(bundle)
    if form == "json":
        document = {"digest": opened.digest, **opened.manifest.model_dump(mode="json")}
        click.echo(json.dumps(document, indent=1, ensure_ascii=False))
        return
    print_rows(summary(opened), ["field", "value"], form)


@click.command("serve")
@click.argument("bundle", type=BUNDLE)
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option("--port", default=8080, show_default=True, help="0 takes a free one.")
@click.option("--threads", default=0, help="Engine threads; 0 lets the engine choose.")
@click.option("--spool", type=click.Path(path_type=Path), help="Keep statistics in this file.")
def serve_command(bundle: Path, host: str, port: int, threads: int, spool: Path | None) -> None:
    """Serve BUNDLE over an OpenAI-compatible endpoint with /metrics, on this machine only."""
    from .server.serve import ServeOptions, announce_on_stderr, serve

    serve(bundle, ServeOptions(host, port, threads, spool), announce_on_stderr)

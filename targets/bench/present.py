"""Records as people and programs read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgeward.runtimes.output import cell, render_json, render_rows

FORMS = ("table", "json", "jsonl", "csv", "md")
Row = dict[str, object]
Record = Mapping[str, Any]
MIB = 2**20
_LISTED = ("id", "test_time", "bundle", "precision", "scenario", "threads", "batch", "prompt")


def render(records: Sequence[Record], form: str) -> str:
    """Return measurements as `table`, `json`, `jsonl`, `csv` or `md`.

    JSON and JSON lines hold whole records, CSV their plain columns, the others what people read.
    """
    if form == "json":
        return render_json(list(records))
    if form in ("csv", "jsonl"):
        return _machine(records, form)
    rows = [people_row(record) for record in records]
    return render_table(rows, _columns(rows), form)


def render_table(rows: Sequence[Row], columns: Sequence[str], form: str) -> str:
    """Return rows as `md`, or in a form of `render_rows`."""
    return _markdown(rows, columns) if form == "md" else render_rows(rows, columns, form)


def people_row(record: Record) -> Row:
    """Return a record as a row with units; what it does not have is None."""
    get = record.get
    speed = get("tokens_per_s") if get("n_gen") else get("throughput_per_s")
    tail = "latency_p99_ms" if get("scenario") == "Server" else "latency_p90_ms"
    return {
        "id": get("id"),
        "device": _where(record),
        "model": f"{get('bundle')} {get('precision')}",
        "scenario": get("scenario"),
        "threads": get("n_threads") or "auto",
        "batch": get("batch"),
        "prompt": get("n_prompt") or None,
        "gen": get("n_gen") or None,
        "TTFT ms": get("ttft_p50_ms"),
        "TTFT plan": _plan(record, "ttft_ms"),
        "TPOT ms": get("tpot_p50_ms"),
        "TPOT plan": _plan(record, "tpot_ms"),
        "prefill t/s": get("prefill_ts"),
        "decode t/s": get("decode_ts"),
        "p50 ms": get("latency_p50_ms"),
        "p50 plan": _plan(record, "latency_ms"),
        "p90/99 ms": get(tail),
        "per s": speed,
        "RTF": get("real_time_factor"),
        "load ms": get("load_ms"),
        "first ms": get("first_ms"),
        "peak MiB": _mib(get("peak_memory_bytes")),
        "peak plan": _plan(record, "peak_memory_bytes", MIB),
        "J": get("energy_per_sample_j"),
        "IQR": f"{get('iqr_percent', 0.0):.0f} %",
        "said": _said(record),
    }


def list_rows(records: Iterable[Record]) -> list[Row]:
    """Return one short row a record."""
    return [
        {
            **{name: record.get(name) for name in ("id", "test_time", "bundle", "precision")},
            "device": record.get("device"),
            "scenario": record.get("scenario"),
            "threads": record.get("n_threads"),
            "batch": record.get("batch"),
            "prompt": record.get("n_prompt"),
            "gen": record.get("n_gen"),
            "p50_ms": record.get("latency_p50_ms"),
            "against": record.get("against"),
        }
        for record in records
    ]


LIST_COLUMNS = (*_LISTED, "gen", "p50_ms", "device", "against")


def _columns(rows: Sequence[Row]) -> list[str]:
    """The columns that any row has something in."""
    every = list(rows[0]) if rows else ["model"]
    return [name for name in every if any(row[name] not in (None, "") for row in rows)]


def _machine(records: Sequence[Record], form: str) -> str:
    if form == "jsonl":
        return "".join(render_rows([record], list(record), form) for record in records)
    columns: dict[str, None] = {}
    for record in records:
        columns |= {name: None for name, value in record.items() if _is_plain(value)}
    return render_rows(records, list(columns), form)


def _is_plain(value: object) -> bool:
    return not isinstance(value, (dict, list))


def _markdown(rows: Sequence[Row], columns: Sequence[str]) -> str:
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[cell(row.get(name)).replace("|", "\\|") for name in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _plan(record: Record, figure: str, unit: int = 1) -> str | None:
    predicted, error = record.get(f"predicted_{figure}"), record.get(f"{figure}_error_percent")
    if predicted is None:
        return None
    return f"{predicted / unit:.4g}" + (f" ({error:+.0f} %)" if error is not None else "")


def _where(record: Record) -> str | None:
    """The fleet's device and its target; None where it was measured here."""
    device, target = record.get("device"), record.get("device_target")
    return f"{device} ({target})" if device and target else device


def _mib(count: object) -> float | None:
    return count / MIB if isinstance(count, (int, float)) else None


def _said(record: Record) -> str:
    told = ["noisy"] if record.get("noisy") else []
    if not record.get("valid", True):
        told.append("not valid")
    if record.get("served_meanwhile"):
        told.append("while serving")
    return ", ".join(told)

"""A small HTML report: proof, sizes, latencies, the rollouts' time lines."""

from __future__ import annotations

import html
import platform
import string
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edgeward.runtimes.bundle.read import Bundle

TEMPLATE = Path(__file__).with_name("report.html")


def write_report(
    path: Path, bundles: Sequence[Bundle], rollouts: Sequence[Any], stats: Any, devices: Any
) -> None:
    """Write the page."""
    template = string.Template(TEMPLATE.read_text(encoding="utf-8"))
    page = template.substitute(
        made=time.strftime("%Y-%m-%d %H:%M"),
        machine=html.escape(f"{platform.machine()}, {_cpu(bundles)}"),
        bundles=_table(_bundle_rows(bundles)),
        bars=_bars(bundles),
        stats=_table(_stats_rows(stats)),
        devices=_table(devices),
        rollouts="".join(_rollout(rollout) for rollout in rollouts),
    )
    path.write_text(page, encoding="utf-8")


def _cpu(bundles: Sequence[Bundle]) -> str:
    return bundles[0].manifest.performance.machine.get("cpu_model", "") if bundles else ""


def _bundle_rows(bundles: Sequence[Bundle]) -> list[dict[str, object]]:
    rows = []
    for bundle in bundles:
        manifest = bundle.manifest
        engine = manifest.proof.engine
        values = manifest.proof.figures
        measured = manifest.performance.measured
        rows.append(
            {
                "target": manifest.target.name,
                "precision": manifest.recipe.precision,
                "MiB": f"{manifest.size / 2**20:.1f}",
                "cosine mean": f"{values['eval_cosine_mean']:.6f}",
                "cosine worst": f"{values['eval_cosine_min']:.4f}",
                "hard inputs worst": f"{values['cosine_min']:.4f}",
                "same token ids": f"{values['token_ids_equal']:.0%}",
                "p50 ms": f"{measured['latency_p50_ms']:.2f}",
                "p95 ms": f"{measured['latency_p95_ms']:.2f}",
                "load ms": f"{measured['load_ms']:.0f}",
                "verified": f"{manifest.proof.verified}: {engine.name} {engine.version}"
                if engine
                else manifest.proof.verified,
                "pending on target": "; ".join(manifest.proof.pending_on_target) or "-",
            }
        )
    return rows


def _stats_rows(stats: Any) -> list[dict[str, object]]:
    return [
        {
            "device": row["device"],
            "bundle": row["bundle"][:12],
            "requests": row["requests"],
            "errors": row["errors"],
            **{f"{q} ms": row[f"latency_{q}_ms"] for q in ("p50", "p95", "p99")},
            "load ms": f"{row['load_p50_ms']:.0f}",
            "memory MiB": f"{row['memory_bytes'] / 2**20:.0f}",
        }
        for row in stats
    ]


def _bars(bundles: Sequence[Bundle]) -> str:
    sizes = [(b, b.manifest.size / 2**20) for b in bundles]
    widest = max((size for _, size in sizes), default=1)
    return "".join(
        f'<div class="bar"><span>{html.escape(b.manifest.target.name)} '
        f"{html.escape(b.manifest.recipe.precision)}</span>"
        f'<i style="width:{size / widest * 60:.1f}%"></i><b>{size:.1f} MiB</b></div>'
        for b, size in sizes
    )


def _rollout(rollout: Any) -> str:
    start = rollout["created_at"]
    events = "".join(_event(event, start) for event in rollout["timeline"])
    title = f"{rollout['model']} {rollout['version']}: {rollout['phase']}"
    reason = rollout.get("reason") or ""
    phase = html.escape(rollout["phase"])
    return (
        f'<h3 class="{phase}">{html.escape(title)}</h3><p>{html.escape(reason)}</p>'
        f"<ol>{events}</ol>"
    )


def _event(event: Any, start: float) -> str:
    who = html.escape(event.get("device") or "fleet")
    text = "" if event["text"] in ("", "idle") else f": {event['text']}"
    what = html.escape(event["kind"] + text)
    return f"<li><time>+{event['at'] - start:.1f} s</time><b>{who}</b> {what}</li>"


def _table(rows: Iterable[dict[str, object]]) -> str:
    rows = list(rows)
    if not rows:
        return "<p>nothing</p>"
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_cell(v))}</td>" for v in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if value is None else str(value)

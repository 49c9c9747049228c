"""Endpoint statistics in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.statistics.recorder import Quantiles, Snapshot


def prometheus(stats: Snapshot, bundle: Bundle) -> str:
    """Return every figure with the bundle's name and digest as labels."""
    labels = f'model="{_escape(bundle.manifest.name)}",bundle="{bundle.digest[:12]}"'
    lines = [
        "# TYPE edgeward_requests_total counter",
        f"edgeward_requests_total{{{labels}}} {stats.requests}",
        "# TYPE edgeward_items_total counter",
        f"edgeward_items_total{{{labels}}} {stats.items}",
        "# TYPE edgeward_tokens_in_total counter",
        f"edgeward_tokens_in_total{{{labels}}} {stats.tokens_in}",
        "# TYPE edgeward_errors_total counter",
        *(
            f'edgeward_errors_total{{{labels},class="{_escape(name)}"}} {count}'
            for name, count in sorted(stats.errors.items())
        ),
        "# TYPE edgeward_load_seconds gauge",
        f"edgeward_load_seconds{{{labels}}} {stats.load_ms / 1e3}",
        "# TYPE edgeward_memory_bytes gauge",
        f"edgeward_memory_bytes{{{labels}}} {stats.memory_bytes}",
        *_summary("edgeward_latency_seconds", labels, stats.latency),
        *_summary("edgeward_queue_seconds", labels, stats.queue),
    ]
    return "\n".join(lines) + "\n"


def _summary(name: str, labels: str, quantiles: Quantiles) -> list[str]:
    values = {
        "0.5": quantiles.p50,
        "0.9": quantiles.p90,
        "0.95": quantiles.p95,
        "0.99": quantiles.p99,
    }
    known = {q: value / 1e3 for q, value in values.items() if value is not None}
    total = (quantiles.mean or 0.0) * quantiles.count / 1e3
    return [
        f"# TYPE {name} summary",
        *(f'{name}{{{labels},quantile="{q}"}} {value}' for q, value in known.items()),
        f"{name}_sum{{{labels}}} {total}",
        f"{name}_count{{{labels}}} {quantiles.count}",
    ]


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

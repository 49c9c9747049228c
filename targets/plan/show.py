"""Predictions as people read them: a headline, rows with units, sentences."""

from __future__ import annotations

from collections.abc import Sequence

from edgeward.targets.profile import Price

from .facts import KINDS, TOWERS, ModelFacts
from .memory import Training
from .predict import Prediction

Row = dict[str, object]
PER_DOLLAR = "tok/$"
COLUMNS = (
    *("target", "recipe", "engine", "weights", "KV", "other", "total", "usable"),
    *("TTFT", "TPOT", "tok/s", "users", PER_DOLLAR, "verdict"),
)
MACHINE_COLUMNS = (
    *("model", "target", "format", "precision", "engine", "unit", "context", "batch", "sequences"),
    *("weights_bytes", "cache_bytes", "activations_bytes", "logits_bytes", "engine_bytes"),
    *("total_bytes", "usable_bytes", "disk_bytes", "ttft_s", "tpot_s", "tokens_per_s", "users"),
    *(
        "tokens_per_dollar",
        "usd_per_hour",
        "price_region",
        "price_as_of",
        "fits",
        "reason",
        "remedies",
    ),
)
_SHORT = 1000.0


def headline(facts: ModelFacts, context: int, sequences: int) -> str:
    """Return one line on the model: its size, its attention, what was read of it."""
    size = amount(facts.parameters)
    if facts.experts:
        size += f" parameters ({amount(facts.active_parameters)} active, {facts.experts} experts)"
    else:
        size += " parameters"
    read = "config.json alone" if facts.counted == "config" else f"{_read(facts)} of headers"
    if facts.cached:
        read += f" in the hub's cache ({facts.cached[:7]})"
    tokens = facts.seen or f"{context} tokens"
    if not facts.heads:
        tokens = "planned by its weights alone"
    length = f"context {context}" if facts.writes_text else tokens
    middle = [size, facts.attention, length, f"{sequences} at once"]
    return f"{facts.name}  {', '.join(each for each in middle if each)}    read {read}, no weights"


def parts_line(facts: ModelFacts) -> str:
    """Return the parameters by part in one line."""
    named = [name for name in (*KINDS, *TOWERS) if facts.parts.get(name)]
    return "  ".join(f"{name} {amount(facts.parts[name])}" for name in named)


def training_line(training: Training) -> str:
    """Return what training takes, in one line."""
    return (
        f"training one batch of this length: {gib(training.full)} GiB in full precision with Adam, "
        f"{gib(training.lora)} GiB with LoRA, {gib(training.qlora)} GiB with QLoRA (rank 16)"
    )


def people_row(row: Prediction) -> Row:
    """Return a prediction as a row of the table."""
    memory = row.memory
    return {
        "target": row.target,
        "recipe": f"{row.format} {row.precision}",
        "engine": f"{row.engine} ({row.unit})",
        "weights": f"{gib(memory.weights)} G",
        "KV": f"{gib(memory.cache)} G" if memory.cache else "-",
        "other": f"{gib(memory.total - memory.weights - memory.cache)} G",
        "total": f"{gib(memory.total)} G",
        "usable": f"of {gib(row.usable_bytes)} G",
        "TTFT": seconds(row.ttft_s),
        "TPOT": seconds(row.tpot_s),
        "tok/s": "-" if row.tokens_per_s is None else f"{row.tokens_per_s:.3g}",
        "users": "-" if row.users is None else str(row.users),
        PER_DOLLAR: "-" if row.tokens_per_dollar is None else amount(round(row.tokens_per_dollar)),
        "verdict": verdict(row),
    }


def machine_row(row: Prediction) -> Row:
    """Return a prediction as a flat row of plain numbers: bytes, seconds and dollars."""
    flat: Row = {f"{name}_bytes": size for name, size in row.memory.parts().items()}
    price = row.price
    paid: Row = {
        "usd_per_hour": price.usd_per_hour if price else None,
        "price_region": price.region or None if price else None,
        "price_as_of": price.as_of or None if price else None,
    }
    return {**row.to_dict(), **flat, **paid}


def columns(rows: Sequence[Prediction]) -> list[str]:
    """Return the table's columns; dollars where any of the targets has a price."""
    priced = any(row.price for row in rows)
    return [name for name in COLUMNS if priced or name != PER_DOLLAR]


def prices_line(rows: Sequence[Prediction]) -> str:
    """Return what an hour of each target costs in one line, empty where none has a price."""
    found = {row.target: row.price for row in rows if row.price}
    told = [f"{name} ${price.usd_per_hour:g} ({_dated(price)})" for name, price in found.items()]
    return f"an hour of {', '.join(told)}; --price USD says another" if told else ""


def verdict(row: Prediction) -> str:
    """Return `fits`, or `no` with the reason and what would make it fit."""
    if row.fits:
        return "fits"
    return f"no: {row.reason}" + (f"; would: {', '.join(row.remedies)}" if row.remedies else "")


def document(
    facts: ModelFacts, rows: Sequence[Prediction], training: Training
) -> dict[str, object]:
    """Return everything as one JSON-ready document."""
    return {
        "model": {
            "name": facts.name,
            "model_type": facts.model_type,
            "kind": facts.kind,
            "parameters": facts.parameters,
            "active_parameters": facts.active_parameters,
            "parts": dict(facts.parts),
            "attention": facts.attention,
            "counted": facts.counted,
            "bytes_read": facts.bytes_read,
            "cached_commit": facts.cached or None,
            "max_context": facts.max_context,
        },
        "training": {
            "full_bytes": training.full,
            "lora_bytes": training.lora,
            "qlora_bytes": training.qlora,
        },
        "predictions": [machine_row(row) for row in rows],
    }


def amount(count: int) -> str:
    """Return a count for people: "1.24 B", "135 M"."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def gib(count: int) -> str:
    """Return bytes in GiB with two decimals, three where it is less than a hundredth."""
    size = count / 2**30
    return f"{size:.2f}" if size >= 0.01 or not count else f"{size:.4f}"


def seconds(value: float | None) -> str:
    """Return a duration for people, a dash where it is unknown."""
    if value is None:
        return "-"
    return f"{value:.3g} s" if value >= 1 else f"{value * _SHORT:.3g} ms"


def _dated(price: Price) -> str:
    return f"{price.region}, {price.as_of}" if price.as_of else "as told"


def _read(facts: ModelFacts) -> str:
    return f"{facts.bytes_read / 1e6:.1f} MB"

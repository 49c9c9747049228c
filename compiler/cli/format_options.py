"""Options of single formats as the command line names them; each format checks its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class FormatOption:
    """One option: what it is called after the dashes, what it takes, whether it may be repeated.

    A `flag` takes nothing.
    """

    name: str
    metavar: str
    help: str
    repeatable: bool = False
    flag: bool = False

    @property
    def parameter(self) -> str:
        """The function's parameter that click fills."""
        return self.name.replace("-", "_")


FORMAT_OPTIONS = (
    FormatOption(
        "tensor-type",
        "NAME=TYPE",
        "GGUF: tensors whose names match get this type, as attn_v=q6_k; repeatable.",
        repeatable=True,
    ),
    FormatOption("output-tensor-type", "TYPE", "GGUF: the type of the output's weights."),
    FormatOption("token-embedding-type", "TYPE", "GGUF: the type of the embeddings."),
    FormatOption(
        "imatrix",
        "FILE|auto|none",
        "GGUF: which columns matter: llama.cpp's file, or made of the calibration texts; the "
        "default is auto for iq2, iq3, mixed and wherever --calibration is given.",
    ),
    FormatOption("size", "SIZE", "GGUF, mixed: the bytes that types are chosen within, as 90MB."),
    FormatOption(
        "types",
        "TYPE,…",
        "GGUF, mixed: what tensors choose among; fast for those whose prefill llama.cpp speeds up.",
    ),
    FormatOption("adapter", "FOLDER", "A LoRA adapter of PEFT: beside a GGUF, or merged."),
    FormatOption("merge-adapter", "", "Merge the adapter into the weights.", flag=True),
    FormatOption("split-size", "SIZE", "GGUF: several files of at most this size, as 2G."),
    FormatOption("group-size", "N", "Compressed: how many weights of a row share a scale."),
    FormatOption("minimum-ios", "16|17|18", "Core ML: the oldest iOS that the package runs on."),
    FormatOption("chunk-size", "SIZE", "Core ML: packages of at most this size, as 500MB."),
    FormatOption(
        "context-length", "N", "TFLite, Core ML: how many tokens a generator's cache holds."
    ),
)


def format_options(command: Command) -> Command:
    """Add every format's options to a command, which gets them as keyword arguments."""
    for one in reversed(FORMAT_OPTIONS):
        takes: dict[str, Any] = {"metavar": one.metavar, "multiple": one.repeatable}
        if one.flag:
            takes = {"is_flag": True}
        added = click.option(f"--{one.name}", one.parameter, help=one.help, **takes)
        command = added(command)
    return command


def given_options(values: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the values of those that were given, by the options' names."""
    found: dict[str, tuple[str, ...]] = {}
    for one in FORMAT_OPTIONS:
        value = values[one.parameter]
        if value and one.repeatable:
            found[one.name] = tuple(value)
        elif value:
            found[one.name] = ("true",) if one.flag else (value,)
    return found

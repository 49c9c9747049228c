"""Every GGUF type of a model and mixed files of the same sizes: size, accuracy, speed.

usage: python benchmarks/llm/file_types.py [MODEL_FOLDER] [--types q8_0,q4_k_m] [--out FOLDER]

With no folder: a random OLMo 2 with SmolLM2's tokenizer, as another architecture.

Each file is compiled and proved as `edgeward compile` does it; beside each type two mixed files of
at most its bytes, of all types and of those alone that llama.cpp reads fast. What llama.cpp's own
function makes of the same float file is held against ours byte for byte. Speeds are over the first
type's: all files asked in turn (A B C A B C) in one process of one thread, medians of the rounds'
own ratios. Prints a table; --out keeps it and a picture.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeward.compiler.compile import Compiled, CompileRequest, compile_model, stage_runner
from edgeward.compiler.formats import gguf
from edgeward.compiler.formats.gguf_types import KINDS, MIXED
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import StageRunner
from edgeward.errors import UsageError
from edgeward.targets.probe import probe

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "onnx"))

from llama_tools import bare_quantise, make_models, run_there
from peers import room
from smollm2 import smollm2

HERE = Path(__file__).parent
OTHER = "wide_olmo2"
# With no importance matrix, where llama.cpp's own function needs none either.
PLAIN = ("q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q4_0", "iq4_xs")
WEIGHED = ("iq3_m", "iq3_xxs", "iq2_m", "iq2_xxs")


@dataclass(frozen=True)
class Row:
    """One file: its bytes, what it loses, and whether llama.cpp's own is the same."""

    name: str
    path: Path
    size: int
    divergence: float
    top1: float
    perplexity: float
    same: str


def compiled(
    model: Path, output: Path, precision: str, runner: StageRunner, **options: str
) -> Compiled:
    """Compile one precision, whatever its proof says."""
    request = CompileRequest(
        str(model),
        ("x86-64-cpu",),
        output,
        (precision,),
        format="gguf",
        accept_degraded=True,
        options={name: (value,) for name, value in options.items()},
    )
    (one,) = compile_model(request, runner=runner)
    return one


def rows(model: Path, types: Sequence[str], folder: Path, runner: StageRunner) -> Iterator[Row]:
    """Give each type's row and those of mixed files of its size."""
    for precision in types:
        one = compiled(model, folder / precision, precision, runner)
        plain = _row(precision, one, _same(one, folder, runner))
        yield plain
        if plain.divergence > 0 and not KINDS[precision].floats:
            yield from _mixed(model, plain, folder, runner)


def _mixed(model: Path, plain: Row, folder: Path, runner: StageRunner) -> Iterator[Row]:
    """Mixed files no larger than a type's; none of types that are all larger than it."""
    for name, options in {"mixed": {}, "fast": {"types": "fast"}}.items():
        place = folder / f"{plain.name}-{name}"
        try:
            one = compiled(model, place, MIXED, runner, size=f"{plain.size} B", **options)
        except UsageError:
            continue
        yield _row(f"{name}, as {plain.name}", one, "")


def _row(name: str, one: Compiled, same: str) -> Row:
    manifest = one.bundle.manifest
    figures = manifest.proof.figures
    path = one.bundle.path / manifest.entry
    return Row(
        name,
        path,
        path.stat().st_size,
        figures["eval_kl_mean"],
        figures["eval_top1_agreement"],
        figures["eval_perplexity_ratio"],
        same,
    )


def _same(one: Compiled, folder: Path, runner: StageRunner) -> str:
    precision = one.job.recipe.precision
    if precision not in PLAIN:
        return ""
    source = gguf.prepare(one.job, runner).model.path
    theirs = folder / "theirs.gguf"
    bare_quantise(source, theirs, ftype=KINDS[precision].number)
    mine = one.bundle.path / one.bundle.manifest.entry
    same = theirs.read_bytes() == mine.read_bytes()
    theirs.unlink()
    return "yes" if same else "no"


def speeds(listed: Sequence[Row]) -> list[dict[str, float]]:
    """Return prefill and decode of each file over the first's."""
    paths = [str(row.path) for row in listed]
    return list(json.loads(run_there("llama", HERE / "file_types_contestant.py", *paths)))


def table(listed: Sequence[Row], speed: Sequence[dict[str, float]]) -> str:
    """Return the rows as Markdown."""
    head = ["type", "MB", "KL", "top-1", "perplexity", "prefill 128", "decode at 128", "same bytes"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row, each in zip(listed, speed, strict=True):
        cells = [
            row.name,
            f"{row.size / 1e6:.1f}",
            f"{row.divergence:.3g}",
            f"{row.top1:.3f}",
            f"{row.perplexity:.3f}",
            f"{each['prefill']:.2f}",
            f"{each['decode']:.2f}",
            row.same,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compile, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--types", default=",".join((*PLAIN, *WEIGHED)))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    model = given.model or make_models(smollm2(), OTHER)[OTHER]
    machine = probe()
    with (
        tempfile.TemporaryDirectory() as scratch,
        stage_runner(CompileRequest("", (), Path(scratch)), NullReporter()) as runner,
    ):
        types = ["fp16", *given.types.split(",")]
        listed = list(rows(model, types, Path(scratch), runner))
        text = f"{model.name}; {machine.cpu_model}, {machine.cores} cores, 1 thread\n\n"
        text += table(listed, speeds(listed))
    print(text)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / f"{model.name}.md").write_text(text)
        points = [[row.name, row.size, row.divergence] for row in listed]
        picture = given.out / f"{model.name}.svg"
        subprocess.run(
            [room("plot"), HERE / "picture.py", picture, model.name],
            input=json.dumps(points),
            text=True,
            check=True,
        )


if __name__ == "__main__":
    main()

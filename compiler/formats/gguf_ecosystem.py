"""What lies beside a GGUF so that every program that reads GGUF opens the bundle as it is.

Ollama reads the `Modelfile`; Jan reads `model.yml`; LM Studio, GPT4All and llama.cpp go by the
file's name and by what stands in the file itself. See `docs/gguf-ecosystem.md`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeward.compiler.source import Source
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.stages import JSON, StageInput, StageResult, StageSpec
from edgeward.errors import SourceError
from edgeward.runtimes.bundle.gguf_header import GgufHeader, read_header
from edgeward.runtimes.tasks.chat import TEMPLATE_FILE, ChatTemplate, has_template
from edgeward.runtimes.tasks.pooling import read_json

from .gguf_modelfile import Modelfile, fits, legible, parameters
from .gguf_modelfile_template import Translated, Turns, translate

MODELFILE, JAN_MODEL, LICENCE = "Modelfile", "model.yml", "LICENSE"
_LICENCE_NAMES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING")
_MAX_LICENCE = 1 << 20
_STRANGE = re.compile(r"[^A-Za-z0-9._]+")
_ENCODINGS = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}
_GENERATES = "text-generation"
# What writes the day into a prompt cannot be a fixed form.
_DATED = b"strftime_now"
_JAN_PLACE = "llamacpp/models"


def file_stem(source: Source, precision: str) -> str:
    """Return the file's name without its ending, by the naming convention of GGUF.

    The source's name has base name, size and fine tune already, the encoding comes last:
    SmolLM2-135M-Instruct-Q4_K_M. See https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
    """
    return f"{base_name(source)}-{_ENCODINGS.get(precision, precision.upper())}"


def base_name(source: Source) -> str:
    """Return the model's own name as it can be part of a file's."""
    return _STRANGE.sub("-", source.id.rsplit("/", 1)[-1]).strip("-.") or "model"


def ecosystem_stage(
    source: Source,
    stem: str,
    model: StageInput,
    assets: StageInput,
    parts: Sequence[str] = (),
    adapter: str = "",
) -> StageSpec:
    """Return the stage that writes what lies beside `model`, which the bundle calls `stem`.gguf.

    `parts` are the names of its files where it is split, `model` is the first of them; `adapter` is
    the name of the file with its LoRA adapter.
    """
    licence = _licence_of(source.folder)
    return StageSpec(
        name="ecosystem",
        call="edgeward.compiler.formats.gguf_ecosystem:write",
        version=1,
        inputs={"model": model, "assets": assets, **({"licence": licence} if licence else {})},
        params={
            "stem": stem,
            "parts": list(parts),
            "adapter": adapter,
            "id": source.id,
            "licence": source.license,
            "generates": source.task == _GENERATES,
        },
        toolchain="llama",
    )


def ecosystem_files(result: StageResult) -> dict[str, Path]:
    """Return what the stage wrote, by its place in the bundle."""
    return {path.name: path for path in sorted(result.path.iterdir()) if path.is_file()}


def write(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `Modelfile`, `model.yml` and, where the model has one, `LICENSE` (a stage).

    `template` of what it returns is `proved`, `none` or `left out`, `notes` say in words what a
    program does not get from the bundle.
    """
    assets, header = context.inputs["assets"], read_header(context.inputs["model"])
    context.progress(0.3, "the chat template")
    translated = _template(assets, header) if params["generates"] else Translated(None)
    chats = params["generates"] and has_template(assets)
    turns = translated.turns
    licence = _licence_text(context.inputs.get("licence"))
    name = f"{params['stem']}.gguf"
    modelfile = Modelfile(
        model=name,
        parameters=parameters(assets, generates=params["generates"]),
        template=turns.go() if turns is not None else "",
        system=_system(turns),
        licence=legible(licence) or legible(str(params["licence"])),
        adapter=params["adapter"],
        comment=_joining(params["parts"], name),
    )
    (context.out / MODELFILE).write_text(modelfile.text(), encoding="utf-8")
    (context.out / JAN_MODEL).write_text(_jan(context.inputs["model"], params), encoding="utf-8")
    if licence:
        (context.out / LICENCE).write_text(licence, encoding="utf-8")
    stated = "proved" if turns is not None else "left out" if chats else "none"
    notes = _notes(turns, translated.why if chats else "", params)
    return {
        "template": stated,
        "notes": notes,
        "summary": f"Modelfile, template {stated}, {len(modelfile.parameters)} parameters",
    }


def _template(assets: Path, header: GgufHeader) -> Translated:
    if not has_template(assets):
        return Translated(None)
    files = (assets / TEMPLATE_FILE, assets / "tokenizer_config.json")
    if any(path.is_file() and _DATED in path.read_bytes() for path in files):
        return Translated(None, "it writes the day of the conversation")
    return translate(ChatTemplate(assets), _leading(assets, header))


def _leading(assets: Path, header: GgufHeader) -> str:
    """Return the text of the token that llama.cpp puts before every prompt; else nothing.

    Where the file does not say, a vocabulary of SentencePiece (`llama`) has one, others do not.
    """
    stated = header.metadata.get("tokenizer.ggml.add_bos_token")
    adds = stated is True or (stated is None and header.text("tokenizer.ggml.model") == "llama")
    settings = read_json(assets / "tokenizer_config.json")
    token = settings.get("bos_token") if isinstance(settings, dict) else None
    token = token.get("content") if isinstance(token, dict) else token
    return token if adds and isinstance(token, str) else ""


def _system(turns: Turns | None) -> str:
    default = turns.default_system if turns is not None else ""
    return default if fits(default) else ""


def _joining(parts: Sequence[str], name: str) -> str:
    if not parts:
        return ""
    return (
        f"Ollama opens no split model. Join it first:\nllama-gguf-split --merge {parts[0]} {name}"
    )


def _jan(model: Path, params: Mapping[str, Any]) -> str:
    """Return Jan's description of the model, as it lies in `llamacpp/models/NAME` of its data.

    Every string of JSON is one of YAML.
    """
    file = params["parts"][0] if params["parts"] else f"{params['stem']}.gguf"
    fields: dict[str, JSON] = {
        "model_path": f"{_JAN_PLACE}/{params['stem']}/{file}",
        "name": params["stem"],
        "size_bytes": model.stat().st_size,
        "embedding": not params["generates"],
    }
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items())


def _notes(turns: Turns | None, why: str, params: Mapping[str, Any]) -> list[str]:
    notes = []
    if why:
        notes.append(
            f"Modelfile without TEMPLATE: {why}. Ollama takes the file's own template where it "
            "knows it, else it sends the bare prompt"
        )
    if turns is not None:
        notes.append("TEMPLATE has no tools; white space around a message's text is kept")
    if turns is not None and turns.system is None:
        notes.append("TEMPLATE leaves system messages out: the original refuses them")
    if params["parts"]:
        notes.append("Ollama opens no split model: its Modelfile says how to join it")
    return notes


def _licence_of(folder: Path) -> StageInput | None:
    """Return the model's licence file; SourceError where it is a link out of the folder."""
    path = next((folder / name for name in _LICENCE_NAMES if (folder / name).is_file()), None)
    if path is None:
        return None
    home = folder.resolve()
    target = path.resolve()
    if not any(target.is_relative_to(place) for place in (home, home.parent.parent / "blobs")):
        raise SourceError(
            f"{path} is a link that leads out of the model",
            why=f"it would be shipped with the bundle: {target}",
            next="put the file itself in its place",
        )
    with path.open("rb") as file:
        content = file.read(_MAX_LICENCE + 1)
    if len(content) > _MAX_LICENCE:
        raise SourceError(f"{path} is no licence", why=f"larger than {_MAX_LICENCE} bytes")
    return StageInput(path, hashlib.sha256(content).hexdigest())


def _licence_text(path: Path | None) -> str:
    return "" if path is None else path.read_text(encoding="utf-8", errors="replace")

"""A text generator as LiteRT-LM reads it: one file of graph, tokenizer and what is to be known.

Layout and fields: litert-lm-builder, as litert-torch's own export fills them
(`generative/export_hf/core/litert_lm_builder.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeward.compiler.stage_context import StageContext
from edgeward.runtimes.tasks.chat import ChatTemplate, has_template
from edgeward.runtimes.tasks.generation import end_tokens, read_settings
from edgeward.runtimes.tasks.tokens import load_tokenizer

from .tflite_litertlm_template import adapted_template

FILE = "model.litertlm"
_BEGIN = "bos_token"
_ASKED = ({"role": "user", "content": "x"},)


def contain(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `model.litertlm` around the graph, whose cache holds so many `slots`."""
    path = context.out / FILE
    write_litertlm(context.inputs["model"], context.inputs["assets"], int(params["slots"]), path)
    return {"summary": f"{FILE}, {path.stat().st_size / 2**20:.1f} MiB"}


def write_litertlm(model: Path, assets: Path, slots: int, path: Path) -> None:
    """Put a TFLite decoder of so many slots and a model's own files into one file."""
    import litert_lm_builder as builder

    told = path.with_suffix(".pb")
    told.write_bytes(metadata_of(assets, slots).SerializeToString())
    whole = builder.LitertLmFileBuilder()
    whole.add_system_metadata(
        builder.Metadata(key="Authors", value="edgeward", dtype=builder.DType.STRING)
    )
    whole.add_llm_metadata(str(told), supports_thinking=False, supports_function_calling=False)
    whole.add_hf_tokenizer(str(assets / "tokenizer.json"))
    whole.add_tflite_model(str(model), builder.TfLiteModelType.PREFILL_DECODE)
    with path.open("wb") as file:
        whole.build(file)
    told.unlink()


def metadata_of(assets: Path, slots: int) -> Any:
    """Return the `LlmMetadata` of a model: its ends, its chat template, how long a text may be."""
    from litert_lm_builder.runtime.proto import llm_metadata_pb2

    told = llm_metadata_pb2.LlmMetadata()
    for token in sorted(end_tokens(assets, read_settings(assets / "config.json"))):
        told.stop_tokens.add().token_ids.ids.append(token)
    template = ChatTemplate(assets) if has_template(assets) else None
    begin = begin_token(assets, template)
    if begin is not None:
        told.start_token.token_ids.ids.append(begin)
    if template is not None:
        written = dict(template.tokens)
        if begin is not None:
            written.pop(_BEGIN, None)
        told.jinja_prompt_template = adapted_template(template.source, written)
    told.max_num_tokens = slots
    told.llm_model_type.generic_model.SetInParent()
    return told


def begin_token(assets: Path, template: ChatTemplate | None) -> int | None:
    """Return the token that LiteRT-LM puts before every text, None where there is none.

    It is what the tokenizer itself puts there; a chat template that does not ask for it by name
    comes first, as LiteRT-LM would put it before a chat too.
    """
    tokenizer: Any = load_tokenizer(assets / "tokenizer.json")
    with_it, without = (
        tokenizer.encode("x", add_special_tokens=special).ids for special in (True, False)
    )
    if len(with_it) <= len(without) or with_it[0] == without[0]:
        return None
    written = tokenizer.id_to_token(with_it[0])
    if template is not None:
        asked = _BEGIN in template.source and template.tokens.get(_BEGIN) == written
        if not asked or not template.render(_ASKED).startswith(written):
            return None
    return int(with_it[0])

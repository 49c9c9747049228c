"""Which models are taken is known from the configuration, and is what the converter knows."""

from __future__ import annotations

import json
import subprocess

import pytest

from edgeward.compiler.architectures import task_of
from edgeward.compiler.child import clean_environment
from edgeward.compiler.formats import gguf
from edgeward.compiler.formats.gguf_coverage import classes
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.errors import UnsupportedError

_LIST = "import json, conversion; print(json.dumps(sorted(conversion.TEXT_MODEL_MAP)))"


def test_no_class_is_in_two_groups() -> None:
    groups = {name: group for name, group in classes().items() if name != "embedding_generators"}
    assert sum(map(len, groups.values())) == len(frozenset().union(*groups.values()))
    assert classes()["embedding_generators"] <= classes()["generators"]


@pytest.mark.parametrize(
    ("model_type", "architecture", "embeds", "task"),
    [
        ("llama", "LlamaForCausalLM", False, "text-generation"),
        ("qwen3", "Qwen3ForCausalLM", False, "text-generation"),
        ("qwen3", "Qwen3ForCausalLM", True, "feature-extraction"),
        ("bert", "BertModel", False, "feature-extraction"),
        ("bert", "BertForMaskedLM", True, "feature-extraction"),
        ("gemma3_text", "Gemma3TextModel", True, "feature-extraction"),
        ("jamba", "JambaForCausalLM", False, "text-generation"),
    ],
)
def test_the_task_follows_from_the_configuration(
    model_type: str, architecture: str, embeds: bool, task: str
) -> None:
    found = task_of(model_type, architecture, embeds=embeds, coverage=gguf.coverage())
    assert found == task


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [
        ("whisper", "WhisperForConditionalGeneration"),
        ("t5", "T5ForConditionalGeneration"),
        ("vit", "ViTForImageClassification"),
        ("gptj", "GPTJForCausalLM"),
        ("llama", "LlamaForCausalLMEagle3"),
    ],
)
def test_what_the_converter_does_not_know_is_refused(model_type: str, architecture: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{architecture} .* is not supported"):
        task_of(model_type, architecture, coverage=gguf.coverage())


@pytest.mark.slow
def test_the_table_is_the_converters() -> None:
    python = Toolchains().ensure("gguf", NullReporter()).python
    command = [python, "-c", _LIST]
    said = subprocess.run(command, check=True, capture_output=True, env=clean_environment({}))
    assert set(json.loads(said.stdout)) == frozenset().union(*classes().values())

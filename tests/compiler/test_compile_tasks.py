"""Which task a configuration asks for, and what is said where it asks for none of ours."""

from __future__ import annotations

import pytest
from documents import ROOT
from hypothesis import given
from hypothesis import strategies as st

from edgeward.compiler.architectures import MODEL_TYPES, task_of
from edgeward.compiler.coverage import coverage_table
from edgeward.compiler.tasks import TASKS, task_spec
from edgeward.errors import UnsupportedError


@pytest.mark.parametrize(
    ("model_type", "architecture", "task"),
    [
        ("bert", "BertModel", "feature-extraction"),
        ("bert", "BertForPreTraining", None),
        ("bert", "BertForMaskedLM", "fill-mask"),
        ("roberta", "RobertaForSequenceClassification", "text-classification"),
        ("xlm-roberta", "XLMRobertaForTokenClassification", "token-classification"),
        ("distilbert", "DistilBertForQuestionAnswering", "question-answering"),
        ("dinov2", "Dinov2Model", "image-feature-extraction"),
        ("vit", "ViTForImageClassification", "image-classification"),
        ("segformer", "SegformerForSemanticSegmentation", "semantic-segmentation"),
        ("detr", "DetrForObjectDetection", "object-detection"),
        ("dpt", "DPTForDepthEstimation", "depth-estimation"),
        ("wav2vec2", "Wav2Vec2ForCTC", "ctc"),
        ("hubert", "HubertForSequenceClassification", "audio-classification"),
        ("clip", "CLIPModel", "zero-shot-image-classification"),
        ("mamba", "MambaModel", None),
        ("detr", "DetrForSegmentation", None),
    ],
)
def test_the_task_comes_from_the_configuration(
    model_type: str, architecture: str, task: str | None
) -> None:
    if task is None:
        with pytest.raises(UnsupportedError, match=architecture):
            task_of(model_type, architecture)
    else:
        assert task_of(model_type, architecture) == task


def test_a_sentence_transformer_is_for_vectors_whatever_its_head() -> None:
    assert task_of("bert", "BertForMaskedLM", embeds=True) == "feature-extraction"
    assert task_of("clip", "CLIPModel", embeds=True) == "zero-shot-image-classification"


def test_what_is_asked_for_overrides() -> None:
    assert task_of("bert", "BertForMaskedLM", "feature-extraction") == "feature-extraction"
    with pytest.raises(UnsupportedError, match="for ctc") as caught:
        task_of("bert", "BertModel", "ctc")
    assert "feature-extraction" in caught.value.why
    with pytest.raises(UnsupportedError, match="juggling"):
        task_of("bert", "BertModel", "juggling")


@given(st.text(max_size=20), st.text(max_size=40))
def test_any_names_are_a_task_or_refused(model_type: str, architecture: str) -> None:
    try:
        assert task_of(model_type, architecture) in TASKS
    except UnsupportedError as error:
        assert error.why


def test_every_task_has_models_and_every_model_a_task() -> None:
    assert set(MODEL_TYPES) == set(TASKS)
    for task, spec in TASKS.items():
        assert task_spec(task) is spec
        assert MODEL_TYPES[task]
        assert set(spec.classes) <= set(spec.outputs)


def test_the_page_says_what_the_table_does() -> None:
    page = ROOT / "docs" / "coverage.md"
    assert page.read_text(encoding="utf-8") == coverage_table()

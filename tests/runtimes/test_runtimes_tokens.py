"""A tokenizer that is read ahead: before an engine's weights, and handed out once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench_bundles import decoder_bundle, writer_bundle
from tiny_decoder import byte_tokenizer

from edgeward.errors import SourceError
from edgeward.runtimes import session
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.tasks import tokens
from edgeward.runtimes.tasks.tokens import load_tokenizer, tokenizer_first


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was read and opened, in order."""
    order: list[str] = []
    for place, name in ((tokens, "_read"), (session, "open_engine")):
        whole = getattr(place, name)

        def noted(*given: Any, whole: Any = whole, name: str = name, **named: Any) -> Any:
            order.append(name)
            return whole(*given, **named)

        monkeypatch.setattr(place, name, noted)
    return order


@pytest.mark.parametrize("made", [decoder_bundle, writer_bundle])
def test_what_writes_has_its_tokenizer_before_the_engine(
    made: Any, read: list[str], tmp_path: Path
) -> None:
    bundle = made(tmp_path / "bundle")
    read.clear()
    session.load(bundle, threads=1)
    assert read == ["_read", "open_engine"]


def test_what_only_reads_has_it_after_the_engine(read: list[str], tiny_bundle: Bundle) -> None:
    """Nothing is freed of a vocabulary without merges: beside loading it would only be more."""
    session.load(tiny_bundle, threads=1)
    assert read == ["open_engine", "_read"]


def test_it_is_handed_out_once(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    byte_tokenizer().save(str(path))
    with tokenizer_first(tmp_path):
        first, second = load_tokenizer(path), load_tokenizer(path)
        assert first is not second
    with tokenizer_first(tmp_path):
        pass
    assert load_tokenizer(path) is not first


def test_a_folder_without_one_has_none_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    with tokenizer_first(tmp_path):
        pass
    (tmp_path / "tokenizer.json").write_text("{")
    with (
        pytest.raises(SourceError, match=r"tokenizer\.json cannot be read"),
        tokenizer_first(tmp_path),
    ):
        raise AssertionError

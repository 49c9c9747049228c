"""Which tokenizers MediaPipe's own stands in for, and the words that it is given."""

from __future__ import annotations

import json
from pathlib import Path

from edgeward.errors import UnsupportedError
from edgeward.runtimes.tasks.tokens import load_tokenizer

_FIRST, _LAST, _UNKNOWN = "[CLS]", "[SEP]", "[UNK]"
_WITHIN, _LARGEST = "##", 1 << 20


def refuse_tokenizer(assets: Path) -> None:
    """Raise UnsupportedError where the model's tokenizer is not that of BERT in lower case.

    MediaPipe lowers a text, cuts it as BERT's basic and WordPiece tokenizers do, and sets [CLS]
    before and [SEP] behind it, whatever the file says.
    """
    path = assets / "tokenizer.json"
    tokenizer = load_tokenizer(path)
    # What fills a text up or cuts it is not the tokenizer's to say here.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    model = json.loads(path.read_text("utf-8")).get("model", {})
    if model.get("type") != "WordPiece":
        raise _other(f"it is {model.get('type')}")
    if model.get("continuing_subword_prefix") != _WITHIN:
        raise _other(f"it is WordPiece with {model.get('continuing_subword_prefix')} within words")
    if model.get("unk_token") != _UNKNOWN:
        raise _other(f"what it does not know is {model.get('unk_token')}")
    capitals, small = (tokenizer.encode(text).tokens for text in ("The SHIP, Now", "the ship, now"))
    if capitals != small:
        raise _other("it tells capitals from small letters")
    if small[:1] != [_FIRST] or small[-1:] != [_LAST]:
        raise _other(f"a text does not stand between {_FIRST} and {_LAST}")


def vocabulary(assets: Path) -> bytes:
    """Return a line for each token in the order of their ids, as BERT's vocabularies are."""
    known: dict[str, int] = load_tokenizer(assets / "tokenizer.json").get_vocab()
    if not known or max(known.values()) >= _LARGEST:
        raise _other("its ids are not those of a vocabulary")
    words = {number: word for word, number in known.items()}
    lines = (words.get(n, f"[unused-{n}]") for n in range(max(words) + 1))
    return "".join(f"{line}\n" for line in lines).encode()


def _other(why: str) -> UnsupportedError:
    return UnsupportedError(
        "MediaPipe's tokenizer would read texts otherwise than this model's",
        why=f"MediaPipe has BERT's WordPiece in lower case, and of this one {why}",
        next="edgeward compile … without --option mediapipe=yes",
    )

"""A GGUF file's vocabulary as tokenizer.json and its settings, as llama.cpp reads it.

Byte-level BPE (`gpt2`), SentencePiece's BPE (`llama`) and WordPiece (`bert`). tokenizer.json is the
`tokenizers` library's own serialised form. Texts are not normalised where llama.cpp does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeward.errors import SourceError, UnsupportedError

from .dequantise_gguf_patterns import PRE_TOKENIZERS, PreTokenizer
from .source_gguf_header import GgufHeader

Json = dict[str, Any]

_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_SPACE = "▁"
_MODELS = ("gpt2", "llama", "bert")
_STRIPPED = ("phi-3", "phi3")
_NEVER_STRIPPED = ("<unk>", "<s>", "<|endoftext|>")
_STOPS = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>")
_SPECIAL_KEYS = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "pad_token": "padding",
    "sep_token": "seperator",
    "cls_token": "cls",
    "mask_token": "mask",
}
_BERT_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the metadata says of its tokens; `types` are llama.cpp's `llama_token_type`."""

    model: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    scores: tuple[float, ...]
    merges: tuple[str, ...]
    special: dict[str, str]
    begins: bool
    ends: bool

    @property
    def added(self) -> list[int]:
        """The tokens that are found in a text before anything else."""
        return [n for n, kind in enumerate(self.types) if kind in (_UNKNOWN, _CONTROL, _USER)]


def check_tokenizer(header: GgufHeader) -> None:
    """Raise UnsupportedError for a vocabulary that is not read."""
    model, name = header.text("tokenizer.ggml.model"), header.text("tokenizer.ggml.pre")
    if model not in _MODELS:
        raise UnsupportedError(
            f"{header.path} has a vocabulary of the kind {model[:40] or 'none'!r}",
            why=f"read are: {', '.join(_MODELS)}",
        )
    if model == "gpt2" and name not in PRE_TOKENIZERS:
        raise UnsupportedError(
            f"{header.path} cuts its texts as {name[:60]!r} does, which is not known",
            why=f"another way gives other tokens; known: {', '.join(filter(None, PRE_TOKENIZERS))}",
        )


def read_vocabulary(header: GgufHeader) -> Vocabulary:
    """Return the vocabulary; SourceError where its arrays do not fit each other."""
    check_tokenizer(header)
    model = header.text("tokenizer.ggml.model")
    tokens = [
        text or f"[EMPTY_{n}]" for n, text in enumerate(header.texts("tokenizer.ggml.tokens"))
    ]
    types = header.numbers("tokenizer.ggml.token_type")
    scores = header.numbers("tokenizer.ggml.scores")
    kinds = [_NORMAL] * len(tokens) if types is None else [int(kind) for kind in types]
    known = [0.0] * len(tokens) if scores is None else [float(score) for score in scores]
    if not tokens or not len(tokens) == len(kinds) == len(known) == len(set(tokens)):
        raise SourceError(
            f"{header.path} has a vocabulary that does not fit itself",
            why=f"{len(tokens)} tokens, {len(kinds)} types, {len(known)} scores, or one twice",
        )
    if model == "llama" and scores is None:
        raise SourceError(f"{header.path} has no tokenizer.ggml.scores", why="merges go by them")
    begins, ends = _borders(header, model)
    return Vocabulary(
        model,
        tuple(tokens),
        tuple(kinds),
        tuple(known),
        tuple(header.texts("tokenizer.ggml.merges")),
        _special(header, model, tokens),
        begins,
        ends,
    )


def _borders(header: GgufHeader, model: str) -> tuple[bool, bool]:
    """Whether a text gets a first and a last token."""
    begins = model == "llama" or model == "bert"
    if model == "gpt2":
        begins = PRE_TOKENIZERS[header.text("tokenizer.ggml.pre")].add_bos
    return (
        header.flag("tokenizer.ggml.add_bos_token", default=begins),
        header.flag("tokenizer.ggml.add_eos_token", default=False),
    )


def _special(header: GgufHeader, model: str, tokens: list[str]) -> dict[str, str]:
    """The tokens that have a role, by transformers' name for it."""
    defaults = {"bos": 1, "eos": 2, "unknown": 0} if model == "llama" else {}
    found = {}
    for name, key in _SPECIAL_KEYS.items():
        number = header.integer(f"tokenizer.ggml.{key}_token_id", defaults.get(key, -1))
        if 0 <= number < len(tokens):
            found[name] = tokens[number]
    if model == "bert":
        plain = {f"{role}_token": text for role, text in _BERT_TOKENS.items() if text in tokens}
        found = {**plain, **found}
        found.setdefault("cls_token", found.get("bos_token", ""))
        found.pop("bos_token", None)
        found.pop("eos_token", None)
    return found


def tokenizer_json(header: GgufHeader, vocabulary: Vocabulary) -> Json:
    """Return tokenizer.json."""
    build = {"gpt2": _byte_level, "llama": _sentencepiece, "bert": _wordpiece}[vocabulary.model]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(header, vocabulary),
        **build(header, vocabulary),
    }


def tokenizer_settings(vocabulary: Vocabulary) -> Json:
    """Return tokenizer_config.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_input_names": _input_names(vocabulary),
        **vocabulary.special,
    }


def special_ids(vocabulary: Vocabulary) -> dict[str, int]:
    """Return what a decoder's configuration names: first, last and padding token's ids."""
    ids = {text: number for number, text in enumerate(vocabulary.tokens)}
    named = {"bos_token_id": "bos_token", "eos_token_id": "eos_token", "pad_token_id": "pad_token"}
    return {
        key: ids[vocabulary.special[name]]
        for key, name in named.items()
        if name in vocabulary.special
    }


def stop_ids(header: GgufHeader, vocabulary: Vocabulary) -> list[int]:
    """Return the tokens that end an answer: those named, then those in the chat template."""
    named = [header.integer(f"tokenizer.ggml.{key}_token_id", -1) for key in ("eos", "eot", "eom")]
    template = header.text("tokenizer.chat_template")
    ids = {text: number for number, text in enumerate(vocabulary.tokens)}
    written = [ids[stop] for stop in _STOPS if stop in ids and stop in template]
    first = special_ids(vocabulary).get("eos_token_id")
    known = [number for number in (first, *named, *written) if number is not None]
    return list(dict.fromkeys(n for n in known if 0 <= n < len(vocabulary.tokens)))


def _input_names(vocabulary: Vocabulary) -> list[str]:
    typed = ["token_type_ids"] if vocabulary.model == "bert" else []
    return ["input_ids", *typed, "attention_mask"]


def _added(header: GgufHeader, vocabulary: Vocabulary) -> list[Json]:
    stripped = any(name in header.text("general.name").lower() for name in _STRIPPED)
    return [
        {
            "id": number,
            "content": vocabulary.tokens[number],
            "single_word": False,
            "lstrip": False,
            "rstrip": stripped and vocabulary.tokens[number] not in _NEVER_STRIPPED,
            "normalized": False,
            "special": vocabulary.types[number] != _USER,
        }
        for number in vocabulary.added
    ]


def _bordered(first: str, last: str, ids: dict[str, int]) -> Json | None:
    """Return the post-processor that puts a token before and one behind, None for neither."""
    before = [{"SpecialToken": {"id": first, "type_id": 0}}] if first else []
    behind = [{"SpecialToken": {"id": last, "type_id": 0}}] if last else []
    if not before and not behind:
        return None
    second = [{"Sequence": {"id": "B", "type_id": 1}}]
    second += [{"SpecialToken": {"id": last, "type_id": 1}}] if last else []
    single = [*before, {"Sequence": {"id": "A", "type_id": 0}}, *behind]
    named = {
        text: {"id": text, "ids": [ids[text]], "tokens": [text]} for text in {first, last} - {""}
    }
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *second],
        "special_tokens": named,
    }


def _post_processor(vocabulary: Vocabulary) -> Json | None:
    first = vocabulary.special.get("bos_token", "") if vocabulary.begins else ""
    last = vocabulary.special.get("eos_token", "") if vocabulary.ends else ""
    return _bordered(first, last, _ids(vocabulary))


def _ids(vocabulary: Vocabulary) -> dict[str, int]:
    return {text: number for number, text in enumerate(vocabulary.tokens)}


def _bpe(vocabulary: Vocabulary, merges: list[list[str]], **settings: Any) -> Json:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": _ids(vocabulary),
        "merges": merges,
        **settings,
    }


def _byte_level(header: GgufHeader, vocabulary: Vocabulary) -> Json:
    rules = PRE_TOKENIZERS[header.text("tokenizer.ggml.pre")]
    merges = [list(_pair(header, merge)) for merge in vocabulary.merges]
    return {
        "normalizer": None,
        "pre_tokenizer": _cut(rules),
        "post_processor": _post_processor(vocabulary),
        "decoder": _by_bytes(),
        "model": _bpe(vocabulary, merges, ignore_merges=rules.ignore_merges),
    }


def _cut(rules: PreTokenizer) -> Json:
    splits = [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
        for regex in rules.patterns
    ]
    return {"type": "Sequence", "pretokenizers": [*splits, _by_bytes()]}


def _by_bytes() -> Json:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }


def _pair(header: GgufHeader, merge: str) -> tuple[str, str]:
    """Cut at the first space that is not the first character, as llama.cpp does."""
    at = merge.find(" ", 1)
    if at < 0:
        raise SourceError(f"{header.path} has a merge of one part", why=repr(merge)[:200])
    return merge[:at], merge[at + 1 :]


def _sentencepiece(header: GgufHeader, vocabulary: Vocabulary) -> Json:
    """SentencePiece joins the pair whose token has the best score: merges ranked by it."""
    prefixed = header.flag("tokenizer.ggml.add_space_prefix", default=True)
    replaced: Json = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    prefix: list[Json] = [{"type": "Prepend", "prepend": _SPACE}] if prefixed else []
    restored: Json = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
    strip: list[Json] = (
        [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefixed else []
    )
    decoders = [restored, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]
    unknown = vocabulary.special.get("unk_token")
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prefix, replaced]},
        "pre_tokenizer": None,
        "post_processor": _post_processor(vocabulary),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _bpe(
            vocabulary,
            _merges_by_score(vocabulary),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=_BYTE in vocabulary.types,
        ),
    }


def _merges_by_score(vocabulary: Vocabulary) -> list[list[str]]:
    ids = _ids(vocabulary)
    joined = (_NORMAL, _USER, _UNUSED)
    ranked = sorted(
        (n for n, kind in enumerate(vocabulary.types) if kind in joined),
        key=lambda n: -vocabulary.scores[n],
    )
    merges: list[list[str]] = []
    for number in ranked:
        known = _halves(vocabulary.tokens[number], ids)
        known.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        merges += [list(pair) for pair in known]
    return merges


def _halves(text: str, ids: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to join a token of two known ones."""
    cuts = [(text[:at], text[at:]) for at in range(1, len(text))]
    return [(left, right) for left, right in cuts if left in ids and right in ids]


def _wordpiece(header: GgufHeader, vocabulary: Vocabulary) -> Json:
    """llama.cpp marks what begins a word, WordPiece what continues one."""
    lowered = header.flag("tokenizer.ggml.normalizer.lowercase", default=True)
    plain = header.flag("tokenizer.ggml.normalizer.strip_accents", default=lowered)
    ids = {_word(text, kind): n for n, (text, kind) in enumerate(_typed(vocabulary))}
    if len(ids) != len(vocabulary.tokens):
        raise SourceError(f"{header.path} has a word twice")
    special = vocabulary.special
    first, last = special.get("cls_token", ""), special.get("sep_token", "")
    return {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": plain,
            "lowercase": lowered,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _bordered(first, last, _ids(vocabulary)),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": special.get("unk_token", "[UNK]"),
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    }


def _typed(vocabulary: Vocabulary) -> list[tuple[str, int]]:
    return list(zip(vocabulary.tokens, vocabulary.types, strict=True))


def _word(text: str, kind: int) -> str:
    if kind in (_CONTROL, _UNKNOWN):
        return text
    return text[1:] if text.startswith(_SPACE) else f"##{text}"

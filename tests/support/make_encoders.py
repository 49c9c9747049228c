"""Writes tiny random encoders; run with the `onnx` toolchain's Python: `make_encoders.py FOLDER`.

Two layers of width 32 with weights of unit scale: a graph that is wrong differs in every digit,
which a default initialisation of 0.02 would hide.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModel, AutoTokenizer

SENTENCES = Path(__file__).parents[2] / "compiler" / "data" / "sentences.txt"
BERT_SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA_SPECIAL = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
MPNET_SPECIAL = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "[UNK]", "mask": "<mask>"}
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
}
DISENTANGLED = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
SQUEEZED = ("q", "k", "v", "post_attention", "intermediate", "output")
# Model type: tokenizer's kind, the class that its hub models name, further settings.
ENCODERS = {
    "albert": ("unigram", "AlbertTokenizer", {"embedding_size": 16}),
    "bert": ("wordpiece", "BertTokenizer", {}),
    "camembert": ("unigram", "CamembertTokenizer", {"type_vocab_size": 1}),
    "deberta-v2": (
        "unigram",
        "DebertaV2Tokenizer",
        {
            **DISENTANGLED,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
        },
    ),
    "distilbert": ("wordpiece", "DistilBertTokenizer", {}),
    "electra": ("wordpiece", "ElectraTokenizer", {"embedding_size": 16}),
    "ernie": ("wordpiece", "BertTokenizer", {}),
    "modernbert": (
        "bytes",
        "PreTrainedTokenizerFast",
        {"global_attn_every_n_layers": 2, "local_attention": 16},
    ),
    "mpnet": ("wordpiece", "MPNetTokenizer", {}),
    "roberta": ("bytes", "RobertaTokenizer", {"type_vocab_size": 1}),
    "xlm-roberta": ("unigram", "XLMRobertaTokenizer", {"type_vocab_size": 1}),
    "data2vec-text": ("bytes", "RobertaTokenizer", {"type_vocab_size": 1}),
    "deberta": ("bytes", "DebertaTokenizer", DISENTANGLED),
    "eurobert": ("bytes", "PreTrainedTokenizerFast", {}),
    "ibert": ("bytes", "RobertaTokenizer", {"type_vocab_size": 1}),
    "megatron-bert": ("wordpiece", "BertTokenizer", {}),
    "nomic_bert": ("wordpiece", "BertTokenizer", {}),
    "rembert": (
        "unigram",
        "RemBertTokenizer",
        {"input_embedding_size": 16, "output_embedding_size": 16},
    ),
    "roberta-prelayernorm": ("bytes", "RobertaTokenizer", {"type_vocab_size": 1}),
    "splinter": ("wordpiece", "SplinterTokenizer", {}),
    "squeezebert": (
        "wordpiece",
        "SqueezeBertTokenizer",
        {"embedding_size": 32, **{f"{part}_groups": 2 for part in SQUEEZED}},
    ),
    "xlm-roberta-xl": ("unigram", "XLMRobertaTokenizer", {"type_vocab_size": 1}),
}
# What the sentence-transformers variants are asked, and their vectors by torch alone.
TEXTS = ["", "gate", "Where is gate B12?", "a " * 200, "يرجى الانتظار هنا"]
EXPECTED = "expected.json"
ROBERTA_LIKE = {
    *("camembert", "data2vec-text", "ibert", "roberta", "roberta-prelayernorm"),
    *("xlm-roberta", "xlm-roberta-xl"),
}


def special_tokens(model_type: str) -> dict[str, str]:
    """The special tokens of a family, by role, in the order of their ids."""
    if model_type == "mpnet":
        return MPNET_SPECIAL
    return ROBERTA_SPECIAL if model_type in ROBERTA_LIKE else BERT_SPECIAL


def train(kind: str, special: dict[str, str]) -> Tokenizer:
    """Train a small tokenizer of a kind on the packaged sentences."""
    lines = SENTENCES.read_text(encoding="utf-8").splitlines()
    options = {"vocab_size": 400, "special_tokens": list(special.values()), "show_progress": False}
    trainer: object
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=special["unk"]))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(**options)
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(unk_token=special["unk"], **options)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        letters = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(initial_alphabet=letters, **options)
    tokenizer.train_from_iterator(lines, trainer)
    ends = [(special[role], tokenizer.token_to_id(special[role])) for role in ("cls", "sep")]
    (cls, _), (sep, _) = ends
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B:1 {sep}:1", special_tokens=ends
    )
    return tokenizer


def scale(model: torch.nn.Module) -> None:
    """Give every weight a random value that keeps activations near unit scale."""
    generator = torch.Generator().manual_seed(7)
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)
    }
    with torch.no_grad():
        for parameter in model.parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if id(parameter) in embeddings:
                parameter.copy_(values)
            elif parameter.ndim > 1:
                parameter.copy_(values / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_((parameter.mean() > 0.5).float() + 0.1 * values)


def write_tokenizer(folder: Path, model_type: str) -> dict[str, int | None]:
    """Write a family's tokenizer; return the ids and the size that its configuration names."""
    kind, tokenizer_class, _ = ENCODERS[model_type]
    special = special_tokens(model_type)
    tokenizer = train(kind, special)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {f"{role}_token": token for role, token in special.items()}
    settings = {"tokenizer_class": tokenizer_class, "model_max_length": 64, **named}
    if kind == "wordpiece":
        settings["do_lower_case"] = True
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    roles = (("pad", "pad"), ("bos", "cls"), ("eos", "sep"), ("cls", "cls"))
    ids = {f"{name}_token_id": tokenizer.token_to_id(special[role]) for name, role in roles}
    return {"vocab_size": tokenizer.get_vocab_size(), **ids}


def write(folder: Path, model_type: str) -> None:
    """Write one model as a hub repository holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = write_tokenizer(folder, model_type)
    settings = {**SIZES, **ENCODERS[model_type][2]}
    config = AutoConfig.for_model(model_type, **settings, **ids)
    torch.manual_seed(0)
    model = AutoModel.from_config(config, dtype=torch.float32)
    scale(model)
    model.save_pretrained(folder)


def variants(root: Path) -> None:
    """Write the bert model again, in the other ways that repositories hold one."""
    from safetensors.torch import load_file, save_file

    bert = root / "bert"

    def again(name: str) -> Path:
        shutil.copytree(bert, root / name)
        return root / name

    model = AutoModel.from_pretrained(bert)
    sharded = again("bert-sharded")
    (sharded / "model.safetensors").unlink()
    model.save_pretrained(sharded, max_shard_size="40KB")
    for name, dtype in (("bert-fp16", torch.float16), ("bert-bf16", torch.bfloat16)):
        model.to(dtype).save_pretrained(again(name))
    weights = load_file(bert / "model.safetensors")
    first = next(name for name in sorted(weights) if name.endswith("dense.weight"))
    for name, value in (("bert-nan", float("nan")), ("bert-inf", 3e38)):
        spoiled = {**weights, first: torch.full_like(weights[first], value)}
        save_file(spoiled, again(name) / "model.safetensors", metadata={"format": "pt"})
    foreign = again("bert-foreign")
    shutil.copyfile(root / "distilbert" / "model.safetensors", foreign / "model.safetensors")
    wider = {**weights, first: torch.zeros(7, 7)}
    save_file(wider, again("bert-misshapen") / "model.safetensors", metadata={"format": "pt"})
    vocabulary = again("bert-vocabulary")
    tokens = json.loads((bert / "tokenizer.json").read_text())["model"]["vocab"]
    lines = sorted(tokens, key=tokens.__getitem__)
    (vocabulary / "vocab.txt").write_text("".join(f"{line}\n" for line in lines))
    (vocabulary / "tokenizer.json").unlink()
    left = again("bert-left") / "tokenizer_config.json"
    left.write_text(json.dumps({**json.loads(left.read_text()), "padding_side": "left"}))
    dense(again("bert-dense"))
    cls(again("bert-cls"))
    pooled(again("bert-max"), "max_tokens", lambda tokens: tokens.amax(dim=0))
    pooled(again("bert-last"), "lasttoken", lambda tokens: tokens[-1])


def dense(folder: Path) -> None:
    """Mean pooling, then a dense layer, then length 1."""
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(3)
    weight = torch.randn((24, 32), generator=generator) / 32**0.5
    bias = torch.randn(24, generator=generator)
    (folder / "2_Dense").mkdir()
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "2_Dense/model.safetensors")
    shape = {"in_features": 32, "out_features": 24, "bias": True}
    function = {"activation_function": "torch.nn.modules.activation.Tanh"}
    (folder / "2_Dense" / "config.json").write_text(json.dumps({**shape, **function}))

    def wanted(tokens: torch.Tensor) -> torch.Tensor:
        return normalize(torch.tanh(weight @ tokens.mean(dim=0) + bias), dim=0)

    pooled(folder, "mean_tokens", wanted, ["Dense", "Normalize"])


def cls(folder: Path) -> None:
    """The first token's vector, with prompts of which one is the default."""
    prompts = {"query": "search for: ", "passage": "passage: "}
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": prompts, "default_prompt_name": "query"})
    )
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48}))
    pooled(folder, "cls_token", lambda tokens: tokens[0], prompt="search for: ", limit=48)


def pooled(
    folder: Path,
    mode: str,
    wanted: Callable[[torch.Tensor], torch.Tensor],
    more: Sequence[str] = (),
    *,
    prompt: str = "",
    limit: int = 64,
) -> None:
    """Write pooling by `mode` and further modules, and what torch alone makes of TEXTS.

    `wanted` turns a text's token vectors (sequence, hidden) into its vector.
    """
    modules(folder, ["Transformer", "Pooling", *more])
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32, f"pooling_mode_{mode}": True})
    )
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    vectors = []
    with torch.inference_mode():
        for text in TEXTS:
            inputs = tokenizer(
                prompt + text, truncation=True, max_length=limit, return_tensors="pt"
            )
            vectors.append(wanted(model(**inputs).last_hidden_state[0]).tolist())
    (folder / EXPECTED).write_text(json.dumps({"texts": TEXTS, "vectors": vectors}))


def modules(folder: Path, kinds: list[str]) -> None:
    """Write `modules.json`."""
    listed = [
        {
            "idx": number,
            "name": str(number),
            "path": "" if kind == "Transformer" else f"{number}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for number, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))


def main(root: Path) -> None:
    """Write every encoder and every variant."""
    torch.set_num_threads(1)
    for model_type in ENCODERS:
        write(root / model_type, model_type)
    variants(root)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

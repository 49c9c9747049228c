"""Writes tiny random encoders; run with the `onnx` toolchain's Python: `make_encoders.py FOLDER`.

Two layers of width 32 with weights of unit scale: a graph that is wrong differs in every digit,
which a default initialisation of 0.02 would hide.
"""

from __future__ import annotations

import json
import shutil
import sys
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
from transformers import AutoConfig, AutoModel

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
# Model type: tokenizer's kind, the class that its hub models name, further settings.
ENCODERS = {
    "albert": ("unigram", "AlbertTokenizer", {"embedding_size": 16}),
    "bert": ("wordpiece", "BertTokenizer", {}),
    "camembert": ("unigram", "CamembertTokenizer", {"type_vocab_size": 1}),
    "deberta-v2": (
        "unigram",
        "DebertaV2Tokenizer",
        {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
            "type_vocab_size": 0,
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
}
ROBERTA_LIKE = {"camembert", "roberta", "xlm-roberta"}


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
                parameter.copy_(values / parameter.shape[-1] ** 0.5)
            else:
                parameter.copy_((parameter.mean() > 0.5).float() + 0.1 * values)


def write(folder: Path, model_type: str) -> None:
    """Write one model as a hub repository holds it."""
    kind, tokenizer_class, settings = ENCODERS[model_type]
    special = special_tokens(model_type)
    tokenizer = train(kind, special)
    config = AutoConfig.for_model(
        model_type,
        **{**SIZES, **settings},
        vocab_size=tokenizer.get_vocab_size(),
        **{
            f"{name}_token_id": tokenizer.token_to_id(special[role])
            for name, role in (("pad", "pad"), ("bos", "cls"), ("eos", "sep"), ("cls", "cls"))
        },
    )
    torch.manual_seed(0)
    model = AutoModel.from_config(config, dtype=torch.float32)
    scale(model)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {f"{role}_token": token for role, token in special.items()}
    settings = {"tokenizer_class": tokenizer_class, "model_max_length": 64, **named}
    if kind == "wordpiece":
        settings["do_lower_case"] = True
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))


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


def dense(folder: Path) -> None:
    """Mean pooling, then a dense layer, then length 1."""
    from safetensors.torch import save_file

    modules(folder, ["Transformer", "Pooling", "Dense", "Normalize"])
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True})
    )
    (folder / "2_Dense").mkdir()
    generator = torch.Generator().manual_seed(3)
    weights = {
        "linear.weight": torch.randn((24, 32), generator=generator) / 32**0.5,
        "linear.bias": torch.randn(24, generator=generator),
    }
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    shape = {"in_features": 32, "out_features": 24, "bias": True}
    function = {"activation_function": "torch.nn.modules.activation.Tanh"}
    (folder / "2_Dense" / "config.json").write_text(json.dumps({**shape, **function}))


def cls(folder: Path) -> None:
    """The first token's vector, with prompts of which one is the default."""
    modules(folder, ["Transformer", "Pooling"])
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32, "pooling_mode_cls_token": True})
    )
    prompts = {"query": "search for: ", "passage": "passage: "}
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": prompts, "default_prompt_name": "query"})
    )
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48}))


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

"""What an engine takes beside the model, and what it makes of the hardware's peak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .packing import Ggml, Packing

MIB = 2**20


@dataclass(frozen=True, slots=True)
class EngineCost:
    """An engine's own memory and habits.

    `resident` is what a process with the engine loaded takes without a model, on the CPU and `gpu`
    more on a GPU (context, kernels). It reads a prompt in pieces of `chunk` tokens; `keeps_scores`
    says whether attention's scores stand whole in memory, `every_logit` whether logits come for
    each token of a piece. On the processor it takes `running` more once it has run, and `writing`
    where it writes texts, beyond what is counted; `packs` says that it packs weights for their
    products as it loads them (`memory.py`), `has_arena` that tensors stand in regions that are
    never given back (`arena.py`); `widens` says that 16-bit weights become float32, the file beside
    them while it is read; the cache has room for `first_room` tokens and doubles, the old one given
    back as it is copied. On a GPU `hands_over` says that a step's cache stands beside the last
    one's. `attention` is the share of the float rate that a token's attention reaches on a
    processor beside reading the cache, `matrix` the share of a GPU's rate that its prompts reach
    where there are matrix units, as others do where it is 0. A layer costs `layer_s` a step beside
    its arithmetic. `unable` says by a model's kind why the engine cannot run one. `graphed_s` is a
    layer's cost where CUDA records the kernels of one sequence's token and launches them as one
    graph. Where `link` bytes a second are given, the weights beyond `on_chip` bytes come over it
    each time. `in_place` says that weights are read where they are stored, as a device does that
    stores nothing else beside them. `packing` are the habits of one that packs weights on the
    processor and runs graphs of fixed shapes, `ggml` those of llama.cpp there. `moved_bytes` is
    what each number takes that operators between a prompt's products write, in bytes moved, and
    `compares` by a model's kind the share of the float rate that a prompt's attention reaches, both
    on a processor.
    """

    formats: tuple[str, ...]
    resident: int
    gpu: int = 0
    chunk: int = 512
    keeps_scores: bool = False
    every_logit: bool = False
    running: int = 0
    writing: int = 0
    packs: bool = False
    has_arena: bool = False
    widens: bool = False
    first_room: int = 0
    hands_over: bool = False
    attention: float = 0.0
    matrix: float = 0.0
    on_chip: int = 0
    link: float = 0.0
    layer_s: Mapping[str, float] | None = None
    graphed_s: float = 0.0
    unable: Mapping[str, str] | None = None
    in_place: bool = False
    packing: Packing | None = None
    ggml: Ggml | None = None
    moved_bytes: float = 0.0
    compares: Mapping[str, float] | None = None


# estimate: launch and bookkeeping of the ten or so kernels of a layer. A convolution takes one
# kernel with its norm and activation, which engines fold into it.
KERNELS = 10
_LAUNCHES = {"cpu": 10e-6, "gpu": 60e-6, "npu": 60e-6}
# fitted: the decode figures on GPUs of benchmarks/plan/published.toml that are not held back, their
# least mean logarithmic error over this, llama.cpp's own and the GPU's share of the bandwidth.
_ONE_BY_ONE = {**_LAUNCHES, "gpu": 140e-6}
_LLAMA_LAUNCHES = {"cpu": 50e-6, "gpu": 180e-6, "npu": 60e-6}
# fitted: the encoders on Inferentia2 and Trainium there, whose graphs are compiled whole
_COMPILED = {**_LAUNCHES, "npu": 30e-6}
_TEXT = ("decoder", "encoder-decoder", "encoder")
_COMPRESSED_ONLY = dict.fromkeys(
    ("encoder", "encoder-decoder", "vision"), "compressed checkpoints are made of text generators"
)
_CNN_ONLY = "decoders need dynamic state; int8 graphs of fixed shape only"
# measured with SmolLM2-135M, a random Llama and a Qwen2 on llama.cpp 0.3.36, one thread of an EPYC:
# benchmarks/plan/reality.py
_LLAMA = EngineCost(
    ("gguf",),
    65 * MIB,
    318 * MIB,
    chunk=512,
    # fitted: the prompts of llama.cpp with CUDA in benchmarks/plan/published.toml, not held back
    matrix=0.25,
    layer_s=_LLAMA_LAUNCHES,
    # fitted: the tokens of benchmarks/plan/on_gpu.py on an H200
    graphed_s=60e-6,
    unable={"vision": "llama.cpp runs no model of pictures alone"},
    ggml=Ggml(merged=270, plain=125),
)
# measured with SmolLM2-135M, a random Qwen2 of 44 M parameters and MiniLM on LiteRT 2.3.0, one
# thread of an EPYC, a piece's logits on a Xeon: benchmarks/plan/reality.py
_XNNPACK = Packing(
    signatures=2,
    piece=128,
    heard=32,
    layer=int(0.62 * MIB),
    caches=2,
    logits=2,
    scores=1,
    joined=7,
    generator=10 * MIB,
    moved=(7.0, 9.0),
    near=6 * MIB,
    # as of ONNX Runtime, `moved.py`: two numbers of 16 bytes each
    scored=32,
)
_SERVING = EngineCost(
    ("compressed",),
    1024 * MIB,
    1024 * MIB,
    chunk=2048,
    layer_s=_ONE_BY_ONE,
    unable=_COMPRESSED_ONLY,
)
ENGINES: Mapping[str, EngineCost] = {
    # measured phase by phase with SmolLM2, random Llamas and Qwen2, MiniLM, BERT and networks for
    # pictures, on a Xeon: 65 MiB for Python, numpy and edgeward, 14 for a session, what its runs
    # take; the rest by benchmarks/plan/reality.py.
    "onnxruntime": EngineCost(
        ("onnx",),
        79 * MIB,
        400 * MIB,
        chunk=256,
        keeps_scores=True,
        running=5 * MIB,
        writing=5 * MIB,
        packs=True,
        has_arena=True,
        widens=True,
        first_room=256,
        hands_over=True,
        attention=0.28,
        moved_bytes=16.0,
        # A generator's compares the whole square, of which half counts.
        compares={"decoder": 0.27, "encoder": 0.6, "vision": 0.6},
        layer_s={**_ONE_BY_ONE, "cpu": 80e-6},
    ),
    "coreml": EngineCost(("coreml",), 60 * MIB, 100 * MIB, layer_s=_LAUNCHES),
    # measured: 48 MiB for Python, numpy and edgeward, 17 for LiteRT
    "litert": EngineCost(("tflite",), 65 * MIB, 150 * MIB, layer_s=_LAUNCHES, packing=_XNNPACK),
    # 8 MB of SRAM, weights beyond them over one lane of PCIe 2.0 each time: Kavalerov, What's
    # inside the Google Coral Edge TPU? (2019): 500 MB/s
    "edgetpu": EngineCost(
        ("tflite",),
        20 * MIB,
        on_chip=8 * MIB,
        link=500e6,
        layer_s=_LAUNCHES,
        unable=dict.fromkeys(_TEXT, _CNN_ONLY),
    ),
    "tflite-micro": EngineCost(
        ("tflite",),
        64 * 1024,
        layer_s=_LAUNCHES,
        unable=dict.fromkeys(_TEXT[:2], _CNN_ONLY),
        in_place=True,
    ),
    "neuron": EngineCost(("neuron",), 800 * MIB, layer_s=_COMPILED),
    "tensorrt": EngineCost(("onnx",), 100 * MIB, 500 * MIB, layer_s=_LAUNCHES),
    "llama": _LLAMA,
    "llama-cpp": _LLAMA,
    # llama.cpp records graphs since May 2024 (github.com/ggml-org/llama.cpp/pull/6766), on GPUs
    # before Ampere since 2026 (pull/25749).
    "llama-before-graphs": replace(_LLAMA, graphed_s=0.0),
    "vllm": _SERVING,
    "sglang": _SERVING,
    "tensorrt-llm": _SERVING,
    # Its attention is PyTorch's own or flash attention, neither of which keeps the scores: the
    # peaks of Qwen2.5 at 30720 tokens in benchmarks/plan/published.toml.
    "transformers": EngineCost(
        ("compressed",), 600 * MIB, 500 * MIB, chunk=1 << 20, layer_s=_ONE_BY_ONE
    ),
}
OTHER = EngineCost((), 100 * MIB, 400 * MIB, layer_s=_ONE_BY_ONE)
# What well-made kernels reach of the published peak: of the bandwidth, of the rate at a prompt's
# sizes. The GPU's are fitted, with the layers' above, on the figures of
# benchmarks/plan/published.toml that are not held back; the others are estimates (STREAM reaches 70
# to 85 % on CPUs). `edgeward targets calibrate` measures a machine's own.
ACHIEVED: Mapping[str, tuple[float, float]] = {
    "cpu": (0.7, 0.5),
    "gpu": (0.9, 0.6),
    "npu": (0.7, 0.35),
}


def cost_of(engine: str) -> EngineCost:
    """Return what is known of an engine, figures of no particular one where it is unknown."""
    return ENGINES.get(engine, OTHER)

"""MediaPipe Tasks open the file that is made for them, and answer as our own session does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from documents import ROOT
from fresh_cache import fresh_cache
from gguf_peers import python_room, run
from matrix import sampled
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from edgeward.compiler.compile import Compiled, CompileRequest, compile_model, stage_runner
from edgeward.compiler.formats.tflite_mediapipe_tokenizer import refuse_tokenizer, vocabulary
from edgeward.compiler.formats.tflite_metadata import About, metadata_of
from edgeward.compiler.formats.tflite_options import MEDIAPIPE_FILE, MEDIAPIPE_TASKS
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import StageRunner
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.errors import UnsupportedError
from edgeward.runtimes.engines.litert_flatbuffer import Table, root

SUPPORT = ROOT / "tests" / "support"
TEXTS = ["The ferry leaves the quiet harbour at noon.", "Who pays for it?", "x"]
LABELS = ("cat", "dog")
ROWS = [
    ("text-classification", "bert", "fp32", "batch=2,sequence=16|32"),
    ("feature-extraction", "distilbert", "int8-weights", "batch=1,sequence=32"),
    ("image-classification", "mobilenet_v2", "int8-dynamic", None),
    ("semantic-segmentation", "segformer", "fp32", None),
    ("object-detection", "yolos", "fp32", None),
    ("audio-classification", "wav2vec2", "fp32", "batch=1,samples=16000"),
]
MAKE = """
import sys
from pathlib import Path
import make_heads
root, task, kind = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
for table in ("TEXT_HEADS", "ENCODERS", "VISION", "DETECTION", "DEPTH", "SPEECH"):
    listed = getattr(make_heads, table)
    wanted = {one: listed[one] for one in (task, kind) if one in listed}
    setattr(make_heads, table, wanted)
part = {"text-classification": "text_heads", "audio-classification": "sounds"}.get(task, "images")
getattr(make_heads, part)(root)
"""
OURS = """
import json, sys
from pathlib import Path
import numpy as np
from edgeward.runtimes import load
from edgeward.runtimes.tasks.labels import read_config, read_labels, softmax
from edgeward.runtimes.tasks.pictures import read_picture_settings
from edgeward.runtimes.tasks.waveforms import Waveforms
def sounds(session, folder, given):
    logits = session.run(Waveforms(folder)(np.load(given)))["logits"][0]
    return list(zip(read_labels(read_config(folder)), map(float, softmax(logits))))
def planes(session, folder, given):
    told = read_picture_settings(folder)
    normal = (np.load(given) * told.factor - np.array(told.mean)) / np.array(told.deviation)
    pixels = normal.transpose(2, 0, 1)[None].astype(np.float32)
    logits = session.run({"pixel_values": pixels})["logits"][0]
    labels = read_labels(read_config(folder))
    return {"labels": labels, "shares": softmax(logits.transpose(1, 2, 0)).tolist()}
kind, folder, given = json.loads(sys.argv[1])
with load(folder) as session:
    print(json.dumps({
        "ImageClassifier": lambda: session.classify_image(np.load(given)),
        "ObjectDetector": lambda: session.detect(np.load(given), threshold=0.0)[:5],
        "ImageSegmenter": lambda: planes(session, Path(folder), given),
        "TextClassifier": lambda: session.classify(given),
        "TextEmbedder": lambda: session.embed(given).tolist(),
        "AudioClassifier": lambda: sounds(session, Path(folder), given),
    }[kind]()))
"""
CHECK = """
import sys
from pathlib import Path
from types import SimpleNamespace
from edgeward.compiler.formats.tflite_mediapipe_check import check
from edgeward.errors import StageError
model, assets = map(Path, sys.argv[1:])
context = SimpleNamespace(inputs={"model": model, "assets": assets})
try:
    print(check(context, {"task": "text-classification", "precision": "fp32"})["summary"])
except StageError as error:
    print(error)
"""
Compile = Callable[..., Compiled]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageRunner]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_CACHE", str(fresh_cache(tmp_path_factory.mktemp("c") / "cache")))
        request = CompileRequest("", (), tmp_path_factory.getbasetemp())
        with stage_runner(request, NullReporter()) as stages:
            yield stages


@pytest.fixture
def compiled(runner: StageRunner, tmp_path: Path) -> Compile:
    def make(task: str, kind: str, precision: str, shapes: str | None) -> Compiled:
        python = python_of("litert")
        if task == "feature-extraction":
            command = [python, SUPPORT / "make_encoders.py", tmp_path]
            model = tmp_path / kind
        else:
            command = [python, "-c", MAKE, tmp_path, task, kind]
            model = tmp_path / task / kind
        run([*command], PYTHONPATH=str(SUPPORT))
        request = CompileRequest(
            model=str(model), targets=("android-mid",), output=tmp_path / "build", task=task,
            precisions=(precision,), format="tflite", shapes=shapes,
            options={"mediapipe": ("yes",)},
        )  # fmt: skip
        (done,) = compile_model(request, runner=runner)
        return done

    return make


def python_of(toolchain: str) -> Path:
    return Toolchains().ensure(toolchain, NullReporter()).python


def both(kind: str, bundle: Path, given: Any, folder: Path) -> tuple[Any, Any, Any]:
    """Our session's answer, MediaPipe's of its own file, and of the file that is not for it."""
    environment = {"PYTHONPATH": str(ROOT / "src")}
    asked = json.dumps([kind, str(bundle), given])
    ours = json.loads(run([python_of("litert-runtime"), "-c", OURS, asked], **environment))
    listed = [[kind, str(bundle / name), given] for name in (MEDIAPIPE_FILE, "model.tflite")]
    (folder / "asked.json").write_text(json.dumps(listed))
    peer = [python_room("mediapipe"), SUPPORT / "mediapipe_calls.py", folder / "asked.json"]
    theirs, plain = json.loads(run([*peer]).splitlines()[-1])
    return ours, theirs, plain


def check_other_answers_are_refused(bundle: Path, assets: Path) -> None:
    """The file gives softmax; where classes do not exclude each other it had to be sigmoid."""
    shutil.copytree(bundle, assets)
    config = json.loads((assets / "config.json").read_text())
    told = {}
    for problem in ("single_label_classification", "multi_label_classification"):
        config["problem_type"] = problem
        (assets / "config.json").write_text(json.dumps(config))
        command = [python_of("litert"), "-c", CHECK, bundle, assets]
        told[problem] = run([*command], PYTHONPATH=str(ROOT / "src"))
    assert "cosine to model.tflite 1.0000" in told["single_label_classification"]
    assert "gives other answers" in told["multi_label_classification"]


def check_scores(ours: Any, theirs: Any, within: float) -> None:
    found = dict(theirs)
    assert set(found) == {label for label, _ in ours}
    assert [label for label, _ in theirs] == sorted(found, key=lambda label: -found[label])
    for label, score in ours:
        assert found[label] == pytest.approx(score, abs=within)


def aligned(shares: Any, sides: tuple[int, ...]) -> Any:
    """Planes (height, width, classes) at other sides, as MediaPipe enlarges: corner to corner."""
    for axis, side in enumerate(sides):
        places = np.linspace(0, shares.shape[axis] - 1, side)
        known = np.arange(shares.shape[axis])
        shares = np.apply_along_axis(
            lambda line, places=places, known=known: np.interp(places, known, line), axis, shares
        )
    return shares


def given_for(task: str, folder: Path) -> Any:
    if task in ("text-classification", "feature-extraction"):
        return TEXTS
    random, path = np.random.default_rng(0), folder / "given.npy"
    if task == "audio-classification":
        np.save(path, random.uniform(-0.5, 0.5, 16_000).astype(np.float32))
    else:
        np.save(path, random.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    return str(path)


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(("task", "kind", "precision", "shapes"), sampled(ROWS, ROWS[0], ROWS[2]))
def test_mediapipe_answers_as_our_session_does(
    compiled: Compile, tmp_path: Path, task: str, kind: str, precision: str, shapes: str | None
) -> None:
    done, name = compiled(task, kind, precision, shapes), MEDIAPIPE_TASKS[task]
    ours, theirs, plain = both(name, done.bundle.path, given_for(task, tmp_path), tmp_path)
    # Why there is another file at all.
    assert "refused" in plain, plain
    assert "refused" not in theirs, theirs
    # What is rounded as it comes differs by a step where MediaPipe's pixels do.
    within = 1e-4 if precision == "fp32" else 0.02
    if name == "TextClassifier":
        for one, other in zip(ours, theirs, strict=True):
            check_scores(one, other, within)
        check_other_answers_are_refused(done.bundle.path, tmp_path / "other")
    elif name == "TextEmbedder":
        assert np.allclose(ours, theirs, atol=within)
    elif name == "ImageSegmenter":
        assert theirs["labels"] == ours["labels"]
        classes = np.array(theirs["classes"])
        enlarged = aligned(np.array(ours["shares"]), classes.shape)
        assert np.mean(enlarged.argmax(axis=-1) == classes) > 0.999
    elif name == "ObjectDetector":
        assert len(theirs) == len(ours) == 5
        for (label, score, box), (other, found, corners) in zip(ours, theirs, strict=True):
            assert (other, found) == (label, pytest.approx(score, abs=within))
            # Whole pixels: a corner is cut, and so is a side from it to the other one.
            assert np.abs(np.subtract(box, corners)).max() < 2
    else:
        check_scores(ours, theirs, within)


def table(names: tuple[list[str], list[str]], about: About) -> Table:
    """The metadata of a graph of such inputs and outputs, by the schema's field numbers."""
    numbers = iter(range(99))
    given, told = (
        [SimpleNamespace(name=name, tensorIndex=next(numbers)) for name in one] for one in names
    )
    signature = SimpleNamespace(
        inputs=given, outputs=told, signatureKey="serving_default", subgraphIndex=0
    )
    places = [[one.tensorIndex for one in ports] for ports in (given, told)]
    graph = SimpleNamespace(inputs=places[0], outputs=places[1])
    model = SimpleNamespace(signatureDefs=[signature], subgraphs=[graph])
    files = {"labels.txt": b"", "vocab.txt": b""}
    (only,) = root(memoryview(metadata_of(model, about, files))).tables(3)
    return only


def test_a_text_asks_for_berts_tokenizer_and_its_words(tmp_path: Path) -> None:
    about = About("x", "", "text-classification", LABELS, tmp_path, vocabulary=b"[PAD]\n")
    only = table((["ids", "mask", "segment_ids"], ["scores"]), about)
    assert [one.text(0) for one in only.tables(2)] == ["ids", "mask", "segment_ids"]
    (unit,) = only.tables(5)
    assert unit.number(0, "b") == 4
    options = unit.table(1)
    assert options is not None
    (words,) = options.tables(0)
    assert (words.text(0), words.number(2, "b")) == ("vocab.txt", 5)


def test_a_picture_comes_as_it_is_and_a_sound_with_its_rate(tmp_path: Path) -> None:
    about = About("x", "", "image-classification", LABELS, tmp_path, rate=8000)
    pixels, sound = table((["image", "waveform"], ["scores"]), about).tables(2)
    (unit,) = pixels.tables(4)
    options = unit.table(1)
    assert options is not None
    assert [options.numbers(n, "f") for n in (0, 1)] == [(0.0,), (1.0,)]
    content = sound.table(3)
    assert content is not None
    told = content.table(1)
    assert content.number(0, "b") == 4
    assert told is not None
    assert [told.number(n, "I") for n in (0, 1)] == [8000, 1]


def test_boxes_and_their_classes_are_told(tmp_path: Path) -> None:
    about = About("x", "", "object-detection", LABELS, tmp_path)
    outputs = ["location", "category", "score", "count"]
    told = table((["image"], outputs), about).tables(3)
    assert [one.text(0) for one in told] == [*outputs[:3], "number of detections"]
    content = told[0].table(3)
    assert content is not None
    boxes = content.table(1)
    assert content.number(0, "b") == 3
    assert boxes is not None
    assert boxes.numbers(0, "I") == (1, 0, 3, 2)
    assert boxes.number(1, "b") == 1
    (labels,) = told[1].tables(6)
    assert (labels.text(0), labels.number(2, "b")) == ("labels.txt", 3)
    assert told[2].tables(6) == []


WORDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "the": 4, "ship": 5, ",": 6, "##s": 8}


def write_tokenizer(
    folder: Path,
    *,
    lower: bool = True,
    ends: bool = True,
    prefix: str = "##",
    unknown: str = "[UNK]",
) -> Path:
    """A tokenizer.json of BERT's kind; one id of its vocabulary is nobody's."""
    model = models.WordPiece(
        {**WORDS, unknown: 1}, unk_token=unknown, continuing_subword_prefix=prefix
    )
    made = Tokenizer(model)
    made.normalizer = normalizers.BertNormalizer(lowercase=lower)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if ends:
        made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.enable_padding(length=16)
    made.save(str(folder / "tokenizer.json"))
    return folder


def test_berts_tokenizer_in_lower_case_is_taken_with_its_words_by_id(tmp_path: Path) -> None:
    refuse_tokenizer(write_tokenizer(tmp_path))
    words = vocabulary(tmp_path).decode().splitlines()
    assert words == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "ship", ",", "[unused-7]", "##s"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lower": False}, "it tells capitals from small letters"),
        ({"ends": False}, "a text does not stand between"),
        ({"prefix": "@@"}, "it is WordPiece with @@ within words"),
        ({"unknown": "<unk>"}, "what it does not know is <unk>"),
    ],
)
def test_another_tokenizer_is_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        refuse_tokenizer(write_tokenizer(tmp_path, **settings))
    assert words in str(caught.value.why)


def test_a_tokenizer_of_bytes_is_refused(tmp_path: Path) -> None:
    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UnsupportedError) as caught:
        refuse_tokenizer(tmp_path)
    assert "it is BPE" in str(caught.value.why)

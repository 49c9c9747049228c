"""Pictures through compiled models: the pixels, classes, boxes and maps that transformers makes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dinov2_small import dinov2_small
from documents import ROOT
from fresh_cache import fresh_cache
from PIL import Image
from tiny_heads import tiny_heads
from typed import typed

from edgeward.compiler.compile import CompileRequest, compile_model, stage_runner
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.errors import UsageError
from edgeward.runtimes import load
from edgeward.runtimes.tasks.picture_tasks import Detected
from edgeward.runtimes.tasks.pictures import Pictures

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
SUPPORT = ROOT / "tests" / "support"
PILLOW = "pillow==12.3.0"
SQUARE = {"height": 64, "width": 64}
COMMON = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
# Task and model type: what its processor's file says.
MODELS: dict[tuple[str, str], dict[str, Any]] = {
    ("image-classification", "vit"): {
        **COMMON, "image_processor_type": "ViTImageProcessor", "size": SQUARE, "resample": 2,
    },
    ("image-classification", "convnext"): {
        **COMMON, "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 64}, "crop_pct": 0.875, "resample": 3,
    },
    ("image-classification", "dinov2"): {
        **COMMON, "image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 72},
        "do_center_crop": True, "crop_size": SQUARE, "resample": 3,
    },
    ("image-classification", "mobilevit"): {
        "image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 70},
        "do_center_crop": True, "crop_size": SQUARE, "do_flip_channel_order": True,
        "do_normalize": False, "resample": 2,
    },
    ("object-detection", "yolos"): {
        **COMMON, "image_processor_type": "YolosImageProcessor", "size": SQUARE, "do_pad": False,
    },
    ("semantic-segmentation", "segformer"): {
        **COMMON, "image_processor_type": "SegformerImageProcessor", "size": SQUARE,
    },
    ("depth-estimation", "dpt"): {
        **COMMON, "image_processor_type": "DPTImageProcessor", "size": SQUARE, "resample": 3,
    },
}  # fmt: skip
Transformers = Callable[[list[list[str]]], list[Any]]


@pytest.fixture(scope="module")
def python() -> Path:
    return Toolchains().ensure("onnx", NullReporter()).python


@pytest.fixture(scope="module")
def transformers(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Transformers:
    """Asks transformers' own processors, for which Pillow lies beside the toolchain."""
    beside = tmp_path_factory.mktemp("pillow")
    tell = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = subprocess.run([python, "-c", tell], capture_output=True, text=True, check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
    chosen = ["--only-binary", ":all:", "--python-version", version.stdout.strip()]
    subprocess.run([*pip, *chosen, "--target", beside, PILLOW], check=True)

    def ask(rows: list[list[str]]) -> list[Any]:
        done = subprocess.run(
            [python, SUPPORT / "image_pipelines.py"],
            input=json.dumps(rows), capture_output=True, text=True, check=True,
            env={"PYTHONPATH": str(beside)},
        )  # fmt: skip
        answers: list[Any] = json.loads(done.stdout)
        return answers

    return ask


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(tiny_heads(), tmp_path_factory.mktemp("heads") / "heads")
    for (task, model_type), settings in MODELS.items():
        written = json.dumps({"do_resize": True, "do_rescale": True, **settings})
        (folder / task / model_type / "preprocessor_config.json").write_text(written)
    return folder


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wider than high, smooth with edges."""
    rows, columns = np.mgrid[:120, :200]
    waves = 127 + 120 * np.sin(columns / 17) * np.cos(rows / 11)
    shapes = np.where((rows - 60) ** 2 + (columns - 90) ** 2 < 1600, 230, 20)
    pixels = np.stack([waves, shapes, (rows * 2) % 256], axis=2).astype(np.uint8)
    path = tmp_path_factory.mktemp("picture") / "one.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def built(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    out = tmp_path_factory.mktemp("build")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_CACHE", str(fresh_cache(tmp_path_factory.mktemp("c") / "cache")))
        with stage_runner(CompileRequest("", (), out), NullReporter()) as stages:
            for task, model_type in MODELS:
                request = CompileRequest(
                    str(models / task / model_type), ("x86-64-cpu",), out / task, task=task
                )
                (one,) = compile_model(request, runner=stages)
                found[task, model_type] = one.bundle.path
    return found


def test_pixels_are_those_of_transformers(
    built: dict[tuple[str, str], Path], transformers: Transformers, picture: Path, tmp_path: Path
) -> None:
    rows = []
    for number, (_, folder) in enumerate(built.items()):
        copy = tmp_path / f"{number}.png"
        copy.write_bytes(picture.read_bytes())
        rows.append(["pixels", str(folder), str(copy)])
    transformers(rows)
    for _, folder, path in rows:
        with load(folder, threads=1) as session:
            pixels, _ = Pictures(Path(folder), session.engine)(path)
        wanted = np.load(f"{path}.npy")
        assert pixels.shape == wanted.shape, folder
        assert np.abs(pixels - wanted).max() < 1e-4, folder


def test_what_is_seen_is_what_transformers_sees(
    built: dict[tuple[str, str], Path], models: Path, transformers: Transformers, picture: Path
) -> None:
    rows = [[task, str(models / task / kind), str(picture)] for task, kind in MODELS]
    wanted = dict(zip(MODELS, transformers(rows), strict=True))
    for (task, kind), answer in wanted.items():
        with load(built[task, kind], threads=1) as session:
            if task == "image-classification":
                found = {one.label: one.score for one in session.classify_image(picture)}
                labels = [f"LABEL_{number}" for number in range(len(answer))]
                assert [found[label] for label in labels] == pytest.approx(answer, abs=1e-4)
                assert next(iter(found)) == labels[int(np.argmax(answer))]
            elif task == "object-detection":
                assert_same_objects(session.detect(picture, threshold=0.0), answer)
            elif task == "semantic-segmentation":
                same = session.segment(picture).classes == np.array(answer)
                assert same.mean() > 0.999
            else:
                depth, exact = session.depth(picture), np.array(answer)
                assert depth.shape == exact.shape
                assert np.abs(depth - exact).max() < 0.2 * exact.std()
            if task != "depth-estimation":
                with pytest.raises(UsageError, match="does not estimate depth"):
                    session.depth(picture)


def test_what_transformers_sees_is_what_evaluation_wants(
    built: dict[tuple[str, str], Path], models: Path, transformers: Transformers, picture: Path
) -> None:
    pytest.importorskip("pycocotools", reason="of the extra `eval`")
    tasks = {"object-detection": "yolos", "semantic-segmentation": "segformer"}
    rows = [[task, str(models / task / kind), str(picture)] for task, kind in tasks.items()]
    objects, classes = transformers(rows)
    corners = ("xmin", "ymin", "xmax", "ymax")
    wanted = [
        {"label": f"LABEL_{label}", "box": dict(zip(corners, box, strict=True))}
        for label, box in zip(objects["labels"], objects["boxes"], strict=True)
    ]
    Image.fromarray(np.array(classes, np.uint8)).save(picture.with_name("mask.png"))
    told = {"object-detection": {"objects": wanted}, "semantic-segmentation": {"mask": "mask.png"}}
    least = {"map": 0.99, "map-50": 0.99, "iou": 0.99, "pixel-accuracy": 0.999}
    for task, kind in tasks.items():
        data = picture.with_name(f"{task}.jsonl")
        data.write_text(json.dumps({"image": picture.name, **told[task]}) + "\n")
        done = typed("eval", built[task, kind], "--data", data, "--resamples", "20", "-o", "json")
        assert done.returncode == 0, done.stderr
        figures = json.loads(done.stdout)["figures"]
        values = {one["metric"]: one["value"] for one in figures if "[" not in one["metric"]}
        assert len(values) == 2
        for name, value in values.items():
            assert value > least[name], (name, value)


def assert_same_objects(found: list[Detected], answer: dict[str, Any]) -> None:
    """transformers keeps the queries' order."""
    order = np.argsort(-np.array(answer["scores"]), kind="stable")
    assert len(found) == len(order)
    for one, number in zip(found, order, strict=True):
        assert one.label == f"LABEL_{answer['labels'][number]}"
        assert one.score == pytest.approx(answer["scores"][number], abs=1e-4)
        assert one.box == pytest.approx(answer["boxes"][number], abs=0.05)


def test_a_real_vision_model_is_compiled_in_every_precision(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_CACHE", str(fresh_cache(tmp_path_factory.mktemp("c") / "cache")))
        request = CompileRequest(
            str(dinov2_small()), ("x86-64-cpu",), tmp_path,
            ("fp32", "fp16", "int8-dynamic", "int8-static"),
        )  # fmt: skip
        exact, half, rounded, static = [one.bundle.manifest for one in compile_model(request)]
    assert exact.task == "image-feature-extraction"
    assert exact.proof.figures["untraced_relative_difference"] < 1e-4
    assert half.proof.figures["eval_cosine_min"] > 0.9999
    assert rounded.proof.figures["eval_cosine_min"] > 0.997
    assert static.proof.figures["eval_cosine_min"] > 0.98
    assert rounded.size < 0.35 * exact.size

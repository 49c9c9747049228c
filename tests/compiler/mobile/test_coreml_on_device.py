"""The script that completes a proof on a Mac, against a simulator of Core ML's predict."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeward.compiler.formats.coreml_device import verify_on_device
from edgeward.runtimes.bundle.read import open_bundle

Arrays = dict[str, Any]


class SimulatedModel:
    """Stands for MLModel: answers by a function, keeps a state that counts."""

    def __init__(self, answer: Callable[[Arrays, Any], Arrays], stateful: bool) -> None:
        self.answer, self.stateful = answer, stateful

    def get_spec(self) -> Any:
        inputs = [SimpleNamespace(name="x")]
        state = ["cache"] if self.stateful else []
        described = SimpleNamespace(input=inputs, state=state, functions=[])
        return SimpleNamespace(description=described)

    def make_state(self) -> list[float]:
        return [0.0]

    def predict(self, given: Arrays, state: Any = None) -> Arrays:
        return self.answer(given, state)


class SimulatedCoreML:
    """Stands for Core ML on a Mac."""

    name, version, machine = "Core ML", "simulated", "arm64"

    def __init__(self, answer: Callable[[Arrays, Any], Arrays], stateful: bool = False) -> None:
        self.answer, self.stateful = answer, stateful

    def open(self, package: Path, function: str | None) -> SimulatedModel:
        assert (package / "Manifest.json").is_file()
        assert function is None
        return SimulatedModel(self.answer, self.stateful)

    def placement(self, package: Path) -> dict[str, int]:
        return {"NeuralEngine": 5, "CPU": 1}


def doubled(given: Arrays, state: Any) -> Arrays:
    del state
    return {"y": given["x"] * 2}


def counted(given: Arrays, state: Any) -> Arrays:
    """The sum of all that the state has seen."""
    state[0] += float(given["x"].sum())
    return {"y": np.full((1, 2), state[0], np.float32)}


@pytest.fixture
def bundle(make_bundle: Any) -> Path:
    """A bundle whose entry is a package's, with two cases of two calls."""
    folder = Path(make_bundle("phone").path)
    x = np.arange(6, dtype=np.float32).reshape(1, 6)
    write_cases(folder, {"0/0//in/x": x, "0/0//out/y": x * 2})
    document = json.loads((folder / "manifest.json").read_text())
    package = folder / "model.mlpackage" / "Manifest.json"
    package.parent.mkdir()
    package.write_text("{}")
    document["entry"] = "model.mlpackage/Manifest.json"
    document["files"] += [listed(folder, package), listed(folder, folder / "on_device.npz")]
    document["proof"]["verified"] = "reference-evaluator"
    document["proof"]["pending_on_target"] = ["predict: run verify_on_device.py there", "heat"]
    (folder / "manifest.json").write_text(json.dumps(document))
    return folder


def listed(folder: Path, path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {
        "path": path.relative_to(folder).as_posix(),
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def write_cases(folder: Path, arrays: Arrays) -> None:
    np.savez_compressed(folder / "on_device.npz", **arrays)


def test_what_agrees_is_written_into_the_manifest_and_the_bundle_stays_whole(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = open_bundle(bundle)
    assert verify_on_device.main([str(bundle)], SimulatedCoreML(doubled)) == 0
    after = open_bundle(bundle)
    proof = after.manifest.proof
    assert after.digest != before.digest
    assert proof.verified == "engine"
    assert proof.engine is not None
    assert (proof.engine.name, proof.engine.provider) == ("Core ML", "cpuAndNeuralEngine")
    assert proof.figures["device_cosine_min"] == pytest.approx(1)
    assert proof.figures["placed_NeuralEngine"] == 5
    assert proof.pending_on_target == ["heat"]
    assert json.loads(capsys.readouterr().out)["passed"]


def test_what_differs_fails_and_stays_pending(bundle: Path) -> None:
    def wrong(given: Arrays, state: Any) -> Arrays:
        return {"y": doubled(given, state)["y"][:, ::-1]}

    assert verify_on_device.main([str(bundle)], SimulatedCoreML(wrong)) == 3
    proof = open_bundle(bundle).manifest.proof
    assert proof.verified == "reference-evaluator"
    assert proof.degraded
    assert "run verify_on_device.py there" in proof.pending_on_target[0]
    assert [check.metric for check in proof.failures] == ["device_cosine_min"]


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_fail(bundle: Path, odd: float) -> None:
    def broken(given: Arrays, state: Any) -> Arrays:
        found = doubled(given, state)["y"].copy()
        found[0, 0] = odd
        return {"y": found}

    assert verify_on_device.main([str(bundle)], SimulatedCoreML(broken)) == 3


def test_a_signed_bundle_is_left_as_it_is(bundle: Path) -> None:
    (bundle / "manifest.sig").write_text("signed")
    before = (bundle / "manifest.json").read_bytes()
    assert verify_on_device.main([str(bundle)], SimulatedCoreML(doubled)) == 0
    assert (bundle / "manifest.json").read_bytes() == before
    beside = bundle.with_name("phone.on_device.json")
    assert json.loads(beside.read_text())["placement"] == {"NeuralEngine": 5, "CPU": 1}


def test_the_calls_of_a_case_share_a_state_and_cases_do_not(tmp_path: Path) -> None:
    one = np.ones((1, 2), np.float32)
    arrays = {}
    for case in (0, 1):
        for call, seen in enumerate((2, 4, 6)):
            arrays[f"{case}/{call}//in/x"] = one
            arrays[f"{case}/{call}//out/y"] = np.full((1, 2), seen, np.float32)
    write_cases(tmp_path, arrays)
    package = tmp_path / "model.mlpackage"
    package.mkdir()
    (package / "Manifest.json").write_text("{}")
    manifest = {"entry": "model.mlpackage/Manifest.json"}
    engine = SimulatedCoreML(counted, stateful=True)
    figures = verify_on_device.measured(tmp_path, manifest, engine)
    assert figures["device_outputs"] == 6
    assert figures["device_relative_difference"] == 0


class SimulatedParts(SimulatedCoreML):
    """An encoder that doubles, and a decoder that adds its cache, which it gives back."""

    def __init__(self) -> None:
        super().__init__(doubled)
        self.asked: list[tuple[str, str | None]] = []

    def open(self, package: Path, function: str | None) -> SimulatedModel:
        self.asked.append((package.name, function))
        inputs = ("x",) if package.name == "encoder.mlpackage" else ("y", "cache", "ids")

        def answer(given: Arrays, state: Any) -> Arrays:
            assert (tuple(given), state) == (inputs, None)
            if "x" in given:
                return {"y": given["x"] * 2}
            total = given["y"] + given["cache"] + given["ids"]
            return {"logits": total, "new_cache": total}

        model = SimulatedModel(answer, stateful=False)
        described = SimpleNamespace(
            input=[SimpleNamespace(name=name) for name in inputs], state=[], functions=[]
        )
        model.get_spec = lambda: SimpleNamespace(description=described)  # type: ignore[method-assign]
        return model


def test_an_encoder_feeds_the_decoder_which_gets_its_cache_back(tmp_path: Path) -> None:
    one = np.ones((1, 2), np.float32)
    write_cases(
        tmp_path,
        {
            "0/0/encoder:/in/x": one,
            "0/0/encoder:/out/y": one * 2,
            "0/1/main/in/ids": one,
            "0/1/main/in/cache": one * 0,
            "0/1/main/out/logits": one * 3,
            "0/2/main/in/ids": one * 5,
            "0/2/main/out/logits": one * 10,
        },
    )
    parts = {role: f"{role}.mlpackage/Manifest.json" for role in ("encoder", "chunk10", "chunk2")}
    manifest = {"entry": "model.mlpackage/Manifest.json", "parts": {"encoder": parts["encoder"]}}
    engine = SimulatedParts()
    figures = verify_on_device.measured(tmp_path, manifest, engine)
    assert engine.asked == [("encoder.mlpackage", None), ("model.mlpackage", "main")]
    assert figures["device_outputs"] == 3
    assert figures["device_relative_difference"] == 0
    found = verify_on_device.all_packages(tmp_path, {**manifest, "parts": parts})
    names = ["model", "chunk2", "chunk10", "encoder"]
    assert [package.stem for package in found] == names


def test_it_needs_nothing_of_edgeward() -> None:
    text = Path(verify_on_device.__file__).read_text("utf-8")
    imports = {
        line.split()[1].split(".")[0]
        for line in text.splitlines()
        if line.strip().startswith(("import ", "from "))
    }
    assert imports <= {
        *("__future__", "argparse", "json", "os", "platform", "sys", "tempfile", "pathlib"),
        *("typing", "numpy", "coremltools"),
    }

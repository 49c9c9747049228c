"""Rounding block by block goes on where a killed process stopped, to the same result."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeward.compiler.stages import StageInput, StageRunner, StageSpec
from edgeward.compiler.texts import packaged_calibration
from edgeward.errors import StageCrashedError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def spec(model: Path, log: Path, precision: str, *, dies: bool) -> StageSpec:
    return StageSpec(
        name="compress",
        call="compressed_dying_stage:run",
        version=1,
        inputs={"source": StageInput(model, model.name)},
        params={
            "precision": precision,
            "texts": list(packaged_calibration())[:20],
            "tokens": 1 << 16,
            "files": ["config.json", "tokenizer.json", "tokenizer_config.json"],
            "log": str(log),
            "dies": dies,
        },
        toolchain="compressed",
        resumes=True,
    )


@pytest.mark.parametrize(
    ("precision", "blocks"), [("w4a16-gptq", 3), ("w4a16-awq", 3), ("nvfp4", 3), ("w8a8", 6)]
)
def test_finished_blocks_are_not_done_again(
    stages: StageRunner, tiny: Path, cache: Path, tmp_path: Path, precision: str, blocks: int
) -> None:
    log = tmp_path / "log"
    broken = spec(tiny / "llama", log, precision, dies=True)
    with pytest.raises(StageCrashedError):
        stages.run(broken)
    unfinished = cache / "stages" / "unfinished" / stages.key(broken)
    assert sorted(path.name for path in unfinished.iterdir()) == [
        "0000.safetensors",
        "0001.safetensors",
    ]
    resumed = stages.run(broken)
    assert log.read_text().split() == ["0", "1", "died", *map(str, range(2, blocks))]
    assert not unfinished.exists()
    whole = stages.run(spec(tiny / "llama", tmp_path / "other", precision, dies=False))
    name = "assets/model.safetensors"
    assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes()

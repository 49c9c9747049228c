"""The real ONNX toolchain, in the user's own cache so that other slow tests share it."""

import pytest
from compiler_kit import spec

from edgeward.compiler.cache_dir import cache_root
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import StageRunner
from edgeward.compiler.toolchains import Toolchains

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_the_onnx_toolchain_holds_what_was_measured_to_work_together(tmp_path):
    toolchains = Toolchains(cache_root())
    onnx = toolchains.ensure("onnx", NullReporter())
    assert onnx.versions["transformers"] == "5.23.0"
    assert onnx.versions["onnxruntime"] == "1.32.0"
    assert onnx.versions["torch"].startswith("2.13.0")
    with StageRunner(toolchains, tmp_path, NullReporter(), threads=1) as run:
        seen = run.run(spec("import_converters", toolchain="onnx")).data
    assert seen["torch"] == onnx.versions["torch"]
    assert seen["cuda"] is None
    assert seen["threads"] == 1
    assert not list(onnx.site_packages.glob("torch*"))


def test_the_older_engine_is_there_without_torch(tmp_path):
    toolchains = Toolchains(cache_root())
    old = toolchains.ensure("onnxruntime-1.23", NullReporter())
    assert old.versions["onnxruntime"] == "1.23.2"
    assert "torch" not in old.versions
    with StageRunner(toolchains, tmp_path, NullReporter(), threads=1) as run:
        seen = run.run(spec("import_engine", toolchain="onnxruntime-1.23")).data
    assert seen == {"onnxruntime": "1.23.2"}

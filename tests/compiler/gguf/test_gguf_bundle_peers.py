"""Whole bundles: adapters and split files proved in llama.cpp, and opened by other programs."""

from __future__ import annotations

import json
import subprocess

import pytest
from compile_desk import Desk
from documents import ROOT
from gguf_peers import node_room, python_room, run
from make_adapter import make_adapter
from modelfile import read_modelfile
from smollm2 import smollm2

from edgeward.compiler.child import clean_environment
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.runtimes.bundle.read import Bundle, open_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
WHOLE, APART, MERGED = "whole", "apart", "merged"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """A tiny Llama alone, with an adapter beside it in several files, and with one merged."""
    folder = tmp_path_factory.mktemp("bundles")
    model = folder / "Tiny-Llama-3M"
    python = Toolchains().ensure("gguf", NullReporter()).python
    script = ROOT / "tests" / "support" / "make_tiny_llama.py"
    subprocess.run([python, script, model, smollm2()], check=True, env=clean_environment({}))
    adapter = make_adapter(folder / "polite", model, lora_alpha=8, use_rslora=True)
    desk = Desk(folder / "desk")
    options = {
        WHOLE: (),
        APART: (f"adapter={adapter}", "split-size=13M"),
        MERGED: (f"adapter={adapter}", "merge-adapter=true"),
    }
    for name, chosen in options.items():
        given = [word for option in chosen for word in ("--option", option)]
        done = desk.run("--format", "gguf", "--name", name, *given, model=model)
        assert done.returncode == 0, done.stderr
    return {name: open_bundle(next(desk.build.glob(f"{name}-kiosk-x86*"))) for name in options}


def test_an_adapter_is_proved_against_the_merged_original(bundles: dict[str, Bundle]) -> None:
    for name in (APART, MERGED):
        manifest = bundles[name].manifest
        assert manifest.proof.verified == "engine"
        assert not manifest.proof.degraded
        assert manifest.recipe.options["adapter"] == "polite"
    assert bundles[APART].manifest.parts == {"adapter": "Tiny-Llama-3M-polite-F32-LoRA.gguf"}
    said = read_modelfile((bundles[APART].path / "Modelfile").read_text())
    assert said["ADAPTER"] == ["./Tiny-Llama-3M-polite-F32-LoRA.gguf"]
    parts = sorted(path.name for path in bundles[APART].path.glob("*-of-*.gguf"))
    assert parts[0] == bundles[APART].manifest.entry
    assert len(parts) > 1
    assert bundles[MERGED].manifest.entry == "Tiny-Llama-3M-F32.gguf"


def test_the_device_proves_it_again(bundles: dict[str, Bundle]) -> None:
    python = Toolchains().ensure("llama", NullReporter()).python
    code = (
        "import sys; from pathlib import Path\n"
        "from edgeward.runtimes import load\n"
        "for path in sys.argv[1:]:\n"
        "    with load(Path(path), threads=1) as session:\n"
        "        pieces = session.generate('The ferry', max_tokens=12, temperature=0)\n"
        "        print(repr(''.join(piece.text for piece in pieces)))\n"
    )
    source = str(ROOT / "src")
    paths = [bundles[name].path for name in (WHOLE, APART, MERGED)]
    texts = run([python, "-c", code, *paths], PYTHONPATH=source).splitlines()
    assert texts[1] == texts[2] != texts[0]


def test_llama_cpp_python_opens_it(bundles: dict[str, Bundle]) -> None:
    python = Toolchains().ensure("llama", NullReporter()).python
    code = (
        "import sys; from llama_cpp import Llama\n"
        "said = [{'role': 'user', 'content': 'Where?'}]\n"
        "for model, *lora in (sys.argv[1:2], sys.argv[2:4]):\n"
        "    one = Llama(model, lora_path=lora[0] if lora else None, n_ctx=128, verbose=False)\n"
        "    answer = one.create_chat_completion(said, max_tokens=3, temperature=0)\n"
        "    print(answer['usage']['completion_tokens'])\n"
    )
    apart = bundles[APART]
    adapter = apart.path / apart.manifest.parts["adapter"]
    told = run([python, "-c", code, bundles[WHOLE].entry, apart.entry, adapter])
    assert [int(line) for line in told.split()] == [3, 3]


def test_other_readers_open_it(bundles: dict[str, Bundle]) -> None:
    entry = bundles[WHOLE].entry
    code = (
        "import sys; from gguf import GGUFReader\n"
        "read = GGUFReader(sys.argv[1])\n"
        "print(len(read.tensors), read.fields['general.name'].contents())"
    )
    tensors, name = run([python_room("gguf"), "-c", code, entry]).split(maxsplit=1)
    assert (int(tensors), name.strip()) == (20, "Tiny Llama 3M")
    room = node_room("huggingface-js")
    script = room / "read.mjs"
    script.write_text(
        'import {gguf} from "@huggingface/gguf";\n'
        "const read = await gguf(process.argv[2], {allowLocalFile: true});\n"
        "console.log(JSON.stringify([read.tensorInfos.length, "
        'read.metadata["general.architecture"]]));\n'
    )
    assert json.loads(run(["node", script, entry])) == [20, "llama"]


def test_node_llama_cpp_chats_with_it(bundles: dict[str, Bundle]) -> None:
    room = node_room("node-llama-cpp")
    script = room / "chat.mjs"
    script.write_text(
        'import {getLlama, LlamaChatSession} from "node-llama-cpp";\n'
        'const llama = await getLlama({build: "never", gpu: false, maxThreads: 1});\n'
        "const model = await llama.loadModel({modelPath: process.argv[2]});\n"
        "const context = await model.createContext({contextSize: 128, threads: 1});\n"
        "const session = new LlamaChatSession({contextSequence: context.getSequence()});\n"
        'await session.prompt("Where?", {maxTokens: 3, temperature: 0});\n'
        "console.log(session.chatWrapper.wrapperName);\n"
        "process.exit(0);\n"
    )
    assert run(["node", script, bundles[WHOLE].entry]).split()[-1] == "ChatML"


def test_xllamacpp_chats_with_it(bundles: dict[str, Bundle]) -> None:
    code = (
        "import sys, xllamacpp as x\n"
        "p = x.CommonParams(); p.model.path = sys.argv[1]\n"
        "p.n_ctx, p.n_gpu_layers, p.cpuparams.n_threads = 128, 0, 1\n"
        "said = [{'role': 'user', 'content': 'Where?'}]\n"
        "asked = {'messages': said, 'max_tokens': 3, 'temperature': 0}\n"
        "print(x.Server(p).handle_chat_completions(asked)['usage']['completion_tokens'])\n"
    )
    told = run([python_room("xllamacpp"), "-c", code, bundles[WHOLE].entry])
    assert told.split()[-1] == "3"


def test_gpt4alls_old_engine_says_what_it_lacks(bundles: dict[str, Bundle]) -> None:
    """The package's llama.cpp of 2024 is older than this model's tokenizer; it has to say so."""
    entry = bundles[WHOLE].entry
    code = (
        "import sys; from gpt4all import GPT4All\n"
        "GPT4All(sys.argv[1], model_path=sys.argv[2], allow_download=False, device='cpu')\n"
    )
    done = subprocess.run(
        [python_room("gpt4all"), "-c", code, entry.name, str(entry.parent)],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment({}),
    )
    assert "unknown pre-tokenizer type: 'smollm'" in done.stdout + done.stderr

"""Stage functions that behave and misbehave, run in real child processes by the tests."""

import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from edgeward.compiler.memory import tree_use
from edgeward.errors import ProofError


class FinerProofError(ProofError):
    """A class that the parent does not know."""


def echo(context, params):
    context.progress(0.5, "half")
    context.metric("figure", 2.5)
    context.log("said on purpose")
    for name, path in context.inputs.items():
        (context.out / name).write_bytes(path.read_bytes())
    (context.out / "sub").mkdir()
    (context.out / "sub" / "file.txt").write_text(str(params.get("text", "")))
    (context.scratch / "temporary").write_text("not kept")
    return {"summary": "echoed", "params": dict(params), "pid": os.getpid()}


def count(context, params):
    """Append a line to a file outside, so that a test can count the runs."""
    with Path(params["counter"]).open("a") as sink:
        sink.write(f"{os.getpid()}\n")
    time.sleep(params.get("sleep", 0))
    (context.out / "big").write_bytes(b"x" * int(params.get("bytes", 1)))
    return {}


def noisy(context, params):
    print("garbage before")
    os.write(1, b"\x00\xff not json\n" * 1000)
    subprocess.run(["sh", "-c", 'echo "{\\"type\\": \\"result\\"}"'], check=True)
    sys.stdout.write("x" * 300_000)
    return {"ok": True}


def noisy_threads(context, params):
    def talk():
        for number in range(200):
            context.metric(f"m{number}", number)
            context.progress(number / 200, "text " * 50)

    threads = [threading.Thread(target=talk) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {}


def raise_proof(context, params):
    raise FinerProofError("KL 0.4 is above 0.05", why="two bits", next="edgeward compile x")


def raise_other(context, params):
    print("the last thing said", file=sys.stderr)
    raise KeyError("first line\nsecond line")


def raise_memory(context, params):
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte")


def raise_disk(context, params):
    raise OSError(28, "No space left on device")


def leave(context, params):
    sys.exit(0)


def vanish(context, params):
    os._exit(params["code"])


def segfault(context, params):
    print("about to touch address zero", file=sys.stderr)
    ctypes.string_at(0)


def die_by(context, params):
    os.kill(os.getpid(), params["signal"])
    time.sleep(60)


def allocate(context, params):
    """Really touch memory, piece by piece."""
    held = []
    for _ in range(int(params["pieces"])):
        held.append(b"\x01" * (8 << 20))
        time.sleep(0.02)
    return {"held": len(held)}


def leaves_a_circle(context, params):
    """Leave memory that nothing but a search for circles frees."""
    circle = [b"\x01" * int(params["bytes"])]
    circle.append(circle)
    return {}


def searches(context, params):
    """Tell how often all objects were searched for circles, and what is held."""
    return {
        "searches": gc.get_stats()[2]["collections"],
        "held": tree_use(os.getpid()).private_bytes,
    }


def grandchild_allocates(context, params):
    code = "import time; x = b'1' * (300 << 20); time.sleep(60)"
    subprocess.run([sys.executable, "-c", code], check=False)
    return {}


def hang(context, params):
    """Never end, deaf to SIGTERM, with a grandchild of the same mind."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grandchild = subprocess.Popen(["sleep", "600"])
    pids = Path(params["pids"])
    fresh = pids.with_suffix(".new")
    fresh.write_text(f"{os.getpid()} {grandchild.pid}")
    fresh.rename(pids)
    time.sleep(600)


def hang_in_native_code(context, params):
    """Hold the interpreter's lock for good: no Python thread of this process runs again."""
    pids = Path(params["pids"])
    fresh = pids.with_suffix(".new")
    fresh.write_text(str(os.getpid()))
    fresh.rename(pids)
    ctypes.PyDLL(None).sleep(600)


def closes_everything(context, params):
    os.closerange(3, 64)
    return {}


def writes_on_the_wire(context, params):
    """Find the protocol's descriptor and write a line without an end."""
    for descriptor in range(3, 20):
        try:
            path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        except OSError:
            continue
        if path.startswith("pipe:"):
            try:
                for _ in range(12):
                    os.write(descriptor, b"y" * (1 << 20))
            except OSError:
                continue
    time.sleep(60)


def not_a_dict(context, params):
    return [1, 2]


def not_json(context, params):
    return {"path": Path("/")}


def not_finite(context, params):
    context.metric("loss", float("nan"))


def too_large(context, params):
    return {"text": "x" * (5 << 20)}


def makes_a_link(context, params):
    (context.out / "link").symlink_to("/etc/passwd")
    return {}


def environment(context, params):
    import tempfile

    return {
        "variables": dict(os.environ),
        "path": sys.path,
        "modules": sorted(sys.modules),
        "temporary": tempfile.gettempdir(),
        "scratch": str(context.scratch),
        "prefix": sys.prefix,
    }


def use_tiny(context, params):
    import tiny

    return {"tiny": tiny.VERSION, "file": tiny.__file__}


def meet(context, params):
    """End only when the other one runs too."""
    Path(params["own"]).touch()
    while not Path(params["other"]).exists():
        time.sleep(0.02)
    return {"pid": os.getpid()}


def import_converters(context, params):
    import torch
    from transformers.exporters import OnnxExporter

    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "exporter": OnnxExporter.__name__,
    }


def import_engine(context, params):
    import onnxruntime

    from edgeward.runtimes.session import Session

    return {"onnxruntime": onnxruntime.__version__} if Session else {}

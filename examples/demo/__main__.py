"""The whole way once: compile, prove, ship over the air, hear back, refuse a broken model.

`make demo` runs it. What it leaves is under demo/: the bundles, the logs, report.html.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from broken import break_bundle
from devices import Device, devices
from model import NAME, fetch_model
from report import write_report
from rich.console import Console
from shell import DemoError, Shell
from traffic import send_traffic

from edgeward.errors import EdgewardError
from edgeward.runtimes.bundle.read import open_bundle

OUT = Path("demo")
MODEL = NAME.lower()
TARGETS = {"kiosk-x86": "int8-dynamic", "jetson-orin-nano": "fp32"}
REQUESTS = 150
console = Console(soft_wrap=True)


def main() -> int:
    """Run every step; 0 where each did what it shows."""
    began = time.monotonic()
    try:
        run(began)
    except (DemoError, EdgewardError) as error:
        console.print(f"[bold red]demo failed:[/] {error}", highlight=False)
        return 1
    except subprocess.CalledProcessError as error:
        command = " ".join(map(str, error.cmd))
        console.print(
            f"[bold red]demo failed:[/] {command}\n"
            "  what it said is above; once the network is there, make demo goes on from here",
            highlight=False,
        )
        return 1
    except OSError as error:
        console.print(f"[bold red]demo failed:[/] {error}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted: what is finished is kept, make demo goes on from there")
        return 130
    return 0


def run(began: float) -> None:
    """The steps in order."""
    step("1  the model")
    model = fetch_model()
    for name in ("fleet", "devices", "keys", "logs", "broken"):
        shutil.rmtree(OUT / name, ignore_errors=True)
    (OUT / "logs").mkdir(parents=True)
    with Shell(console, OUT / "logs") as shell:
        bundles = compile_all(shell, model)
        fleet = devices(OUT / "devices")
        bring_up(shell, fleet)
        step("4  sign a release of both variants and roll it out in two waves")
        first = release(shell, "1.0.0", bundles, expect=0)
        statistics = hear_back(shell, fleet)
        step("6  a broken model: right digests, right signature, perturbed weights")
        broken = {}
        for target, good in bundles.items():
            broken[target] = OUT / "broken" / good.name
            break_bundle(good, broken[target])
        second = release(shell, "1.0.1", broken, expect=1)
        after = shell.json("fleet", "devices", "--home", OUT / "fleet", "-o", "json")
        check_still_good(shell, fleet, bundles)
        write_report(
            OUT / "report.html",
            [open_bundle(path, check="sizes") for path in sorted((OUT / "build").iterdir())],
            [first, second],
            statistics,
            after,
        )
        summarise(bundles, first, second, statistics, after, time.monotonic() - began)


def step(title: str) -> None:
    """Print a step's heading."""
    console.print(f"\n[bold cyan]{title}[/]", highlight=False)


def compile_all(shell: Shell, model: Path) -> dict[str, Path]:
    """Compile both precisions for both targets; return each target's variant of the release."""
    step("2  compile and prove, for two targets in two precisions")
    targets = [word for name in TARGETS for word in ("--target", name)]
    shell.run(
        "compile", model, "--name", MODEL, *targets, "-p", "fp32,int8-dynamic", "-o", OUT / "build"
    )
    return {t: OUT / "build" / f"{MODEL}-{t}-{precision}" for t, precision in TARGETS.items()}


def bring_up(shell: Shell, fleet: list[Device]) -> None:
    """Start the controller and both agents."""
    step("3  a fleet: broker, controller, blob server; two devices")
    home = OUT / "fleet"
    shell.start("fleet", "fleet", "up", "--home", home, "--http-port", "0")
    url = shell.wait_for("the controller", lambda: _url(home))
    shell.run("release", "keygen", OUT / "keys", show=False)
    shell.run("release", "trust", OUT / "keys", "--home", home, show=False)
    for device in fleet:
        shell.run(
            "agent", "enroll", "--home", device.home, "--controller", url, "--id", device.id,
            show=False,
        )  # fmt: skip
        device.pretend()
        shell.start(device.id, "agent", "run", "--home", device.home, python=device.python)
    ids = {device.id for device in fleet}
    shell.wait_for("both devices", lambda: True if ids <= _online(shell) else None)
    shell.run("fleet", "devices", "--home", home)


def release(shell: Shell, version: str, bundles: dict[str, Path], expect: int) -> Any:
    """Sign a release, roll it out in two waves, watch it; return the rollout."""
    home = OUT / "fleet"
    shell.run(
        "release", "create", MODEL, version, *bundles.values(), "--sign", OUT / "keys",
        "--home", home,
    )  # fmt: skip
    shell.run(
        "fleet", "rollout", "create", MODEL, version, "--to", "all", "--waves", "50%,100%",
        "--soak", "1s", "--timeout", "2m", "--home", home,
    )  # fmt: skip
    listed = shell.json("fleet", "rollout", "list", "--home", home, "-o", "json")
    rollout = next(row["id"] for row in listed if row["version"] == version)
    shell.run("fleet", "rollout", "watch", rollout, "--home", home, expect=expect)
    return shell.json("fleet", "rollout", "show", rollout, "--home", home)


def hear_back(shell: Shell, fleet: list[Device]) -> Any:
    """Use both models, then show what came back over MQTT."""
    step("5  use the models; statistics come back over MQTT")
    for device in fleet:
        send_traffic(_port(shell, device), REQUESTS)

    def complete() -> Any | None:
        rows = shell.json("fleet", "stats", "--home", OUT / "fleet", "-o", "json")
        enough = [row for row in rows if row["requests"] >= REQUESTS]
        return rows if len(enough) == len(fleet) else None

    rows = shell.wait_for("every request's statistics", complete)
    shell.run("fleet", "stats", "--home", OUT / "fleet")
    return rows


def check_still_good(shell: Shell, fleet: list[Device], bundles: dict[str, Path]) -> None:
    """Hold every device against its last known good bundle, and ask it once more."""
    shell.run("fleet", "devices", "--home", OUT / "fleet")
    for device in fleet:
        status = shell.json("agent", "status", "--home", device.home, "-o", "json")
        good = open_bundle(bundles[device.target], check="sizes").digest
        if status["active"] != good or status["last_known_good"] != good:
            raise DemoError(f"{device.id} is not on its last known good bundle")
        send_traffic(status["port"], 1)


def summarise(
    bundles: dict[str, Path],
    first: Any,
    second: Any,
    statistics: Any,
    after: Any,
    seconds: float,
) -> None:
    """Print the few lines that remain."""
    step("summary")
    for target, path in bundles.items():
        bundle = open_bundle(path, check="sizes")
        manifest, cosine = bundle.manifest, bundle.manifest.proof.figures["eval_cosine_mean"]
        engine = manifest.proof.engine
        proved = f"cosine {cosine:.5f} by {engine.name} {engine.version}" if engine else ""
        size = f"{manifest.size / 2**20:5.1f} MiB"
        console.print(
            f"  {target:17} {manifest.recipe.precision:13} {size}   {proved}", highlight=False
        )
    for row in statistics:
        console.print(
            f"  {row['device']:17} {_latencies(row)}   {row['requests']} requests, "
            f"{row['errors']} errors, load {row['load_p50_ms']:.0f} ms, "
            f"{row['memory_bytes'] / 2**20:.0f} MiB",
            highlight=False,
        )
    console.print(f"  1.0.0 {first['phase']}; 1.0.1 {second['phase']}: {second['reason']}")
    for row in after:
        console.print(f"  {row['id']:17} on {row['version']}", highlight=False)
    console.print(f"  {seconds:.0f} s; report: {OUT / 'report.html'}", highlight=False)


def _latencies(row: Any) -> str:
    return ", ".join(f"{q} {row[f'latency_{q}_ms']:.1f}" for q in ("p50", "p95", "p99")) + " ms"


def _url(home: Path) -> str | None:
    try:
        return str(json.loads((home / "fleet.json").read_text())["http"])
    except (OSError, ValueError, KeyError):
        return None


def _online(shell: Shell) -> set[str]:
    rows = shell.json("fleet", "devices", "--home", OUT / "fleet", "-o", "json")
    return {row["id"] for row in rows if row["online"]}


def _port(shell: Shell, device: Device) -> int:
    status = shell.json("agent", "status", "--home", device.home, "-o", "json")
    return int(status["port"])


if __name__ == "__main__":
    sys.exit(main())

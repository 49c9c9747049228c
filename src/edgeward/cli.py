"""The command line's root: names every verb, imports a room only when its verb is called."""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

import click

from edgeward._version import __version__
from edgeward.errors import EdgewardError, MissingError

COMMANDS: dict[str, tuple[str, str]] = {
    "compile": (
        "edgeward.compiler.cli.compile:compile_command",
        "Compile a model for one or more targets.",
    ),
    "plan": ("edgeward.targets.cli_plan:plan_command", "Predict memory and speed on a device."),
    "recommend": (
        "edgeward.compiler.cli.recommend:recommend_command",
        "Find the recipe that is best for a device, measured and proved.",
    ),
    "verify": (
        "edgeward.runtimes.cli:verify_command",
        "Run a bundle's proof again on this machine.",
    ),
    "bench": (
        "edgeward.targets.cli_bench:bench_command",
        "Measure a bundle here, or on a device of the fleet.",
    ),
    "eval": ("edgeward.targets.cli_eval:eval_command", "Tell a bundle's metrics on your data."),
    "inspect": ("edgeward.runtimes.cli:inspect_command", "Show what a bundle holds and claims."),
    "finalize": (
        "edgeward.runtimes.cli_finalize:finalize_command",
        "Build on the device what only it can build.",
    ),
    "run": ("edgeward.runtimes.cli_run:run_command", "Generate text with a bundle."),
    "serve": ("edgeward.runtimes.cli:serve_command", "Serve a bundle over HTTP on this machine."),
    "targets": ("edgeward.targets.cli:targets_group", "List, show and probe the devices we know."),
    "release": ("edgeward.fleet.cli.release:release_group", "Make and sign releases."),
    "fleet": ("edgeward.fleet.cli.fleet:fleet_group", "Run the controller, roll out, watch."),
    "agent": ("edgeward.fleet.cli.agent:agent_group", "Run the agent on a device."),
    "doctor": (
        "edgeward.compiler.cli.doctor:doctor_command",
        "Show what is installed and what is missing.",
    ),
}
EXTRAS = {
    "agent": "agent,onnx",
    "eval": "eval,onnx",
    "fleet": "control",
    "release": "control",
    "serve": "serve,onnx",
}
INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group whose commands are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module and return its command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb; MissingError where its extra is not installed."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            extra = EXTRAS.get(ctx.invoked_subcommand or "")
            if extra is None or (error.name or "").startswith("edgeward"):
                raise
            raise MissingError(
                f"edgeward {ctx.invoked_subcommand} needs {error.name}, which is not installed",
                next=f"pip install 'edgeward[{extra}]'",
            ) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs' one-line helps from the table, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeward")
def root() -> None:
    """Compile Hugging Face models for edge devices, prove them, ship them, hear back.

    Exit codes: 0 done, 1 failed, 2 usage, 3 proof failed, 4 does not fit,
    5 toolchain or engine missing, 6 refused for trust.
    """


def main() -> NoReturn:
    """Run the command line and turn errors into words and exit codes."""
    try:
        result = root.main(
            standalone_mode=False, auto_envvar_prefix="EDGEWARD", prog_name="edgeward"
        )
    except EdgewardError as error:
        _say_error(str(error))
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _say_error(f"{error.strerror or error}: {error.filename or 'unnamed'}")
        sys.exit(EdgewardError.exit_code)
    sys.exit(result if isinstance(result, int) else 0)


def _say_error(text: str) -> None:
    """Names from outside stand in errors: none of them may drive the terminal."""
    from edgeward.runtimes.output import cell

    click.echo("error: " + "\n".join(cell(line) for line in text.split("\n")), err=True)

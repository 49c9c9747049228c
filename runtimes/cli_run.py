"""`edgeward run`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("run")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("prompt")
@click.option("--system", help="What the assistant is told first; only for models with a chat.")
@click.option("--raw", is_flag=True, help="Continue PROMPT as it stands, without a chat template.")
@click.option("--max-tokens", default=256, show_default=True, help="The most tokens to generate.")
@click.option("--temperature", default=0.0, show_default=True, help="0 takes the likeliest token.")
@click.option("--top-k", default=0, show_default=True, help="Pick among so many; 0 among all.")
@click.option("--top-p", default=1.0, show_default=True, help="Pick among this share.")
@click.option("--seed", type=int, help="The same seed picks the same tokens.")
@click.option("--stop", multiple=True, help="End at this text; may be given several times.")
@click.option("--threads", default=0, help="Engine threads; 0 lets the engine choose.")
def run_command(
    bundle: Path,
    prompt: str,
    system: str | None,
    raw: bool,
    max_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int | None,
    stop: tuple[str, ...],
    threads: int,
) -> None:
    """Answer PROMPT, or continue it where the model knows no chat, streaming to stdout.

    A model that transcribes takes a WAV file as PROMPT and prints what it says.
    """
    from .session import load

    with load(bundle, threads=threads) as session:
        if session.hears:
            click.echo(session.transcribe(prompt).text)
            return
        pieces = session.generate(
            prompt if raw else session.question(prompt, system),
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            stop=stop,
        )
        for piece in pieces:
            click.echo(piece.text, nl=False)
        click.echo()

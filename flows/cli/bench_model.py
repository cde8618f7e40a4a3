"""`backline bench training`, `sampler` and `budget`: how fast the model is, beside what a user would pick instead."""

import os
from typing import Annotated

import typer

from flows.cli.console import err
from flows.cli.progress import bar

commands = typer.Typer()
Rounds = Annotated[int, typer.Option(min=2, help="Rounds; each does every variant once.")]
Threads = Annotated[int, typer.Option(min=1, help="Of PyTorch.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit code 1 where a figure misses what is demanded.")]
QUIET = {  # before PyTorch is imported
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait must not spin, or CPU time counts their waiting
    "GOMP_SPINCOUNT": "0",
    "KINETO_LOG_LEVEL": "5",  # the profiler, which only counts bytes here
}


@commands.command()
def training(
    rounds: Rounds = 12,
    threads: Threads = 2,
    eager: Annotated[bool, typer.Option("--eager", help="Leave out the compiled variants; needs no compiler.")] = False,
    strict: Strict = False,
) -> None:
    """A training step beside Hugging Face's Llama with full-logit cross-entropy, eager and compiled: JSON lines.

    26.7 million parameters, 2 rows of 1024 codes, float32; both ways hold the same weights and must give the same loss
    and gradient. CPU seconds over threads, paired by rounds. Example: backline bench training --rounds 20
    """
    os.environ.update(QUIET)
    from flows.bench.training import VARIANTS, Setting, run, to_json

    chosen = tuple(name for name in VARIANTS if not eager or name.endswith("eager"))
    with bar("training", "round") as show:
        results = run(Setting(rounds=rounds, threads=threads, variants=chosen), show)
    for result in results:
        typer.echo(to_json(result))
    report([f"{result.variant}: {line}" for result in results for line in result.missed], strict)


@commands.command()
def sampler(
    rounds: Rounds = 3,
    threads: Threads = 2,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps of the generation.")] = 20,
    guidance: Annotated[float, typer.Option(min=0.0, help="Scale; 1 = off, one row a song instead of two.")] = 2.0,
    strict: Strict = False,
) -> None:
    """A whole generation beside a sampler of the same law with every frame's logits and a full sort: JSON lines.

    The same network and 40.96 s of song; both ways get the same uniforms and must give the same codes. A round of 20
    steps takes 100 CPU seconds; --steps 60 is the paper's. Example: backline bench sampler --guidance 1
    """
    os.environ.update(QUIET)
    from flows.bench.sampler import Setting, run, to_json

    with bar("sampler", "round") as show:
        results = run(Setting(rounds=rounds, threads=threads, steps=steps, guidance=guidance), show)
    for result in results:
        typer.echo(to_json(result))
    report([f"{result.variant}: {line}" for result in results for line in result.missed], strict)


@commands.command()
def budget() -> None:
    """Print what the 1B model's arithmetic takes on an A100 and an H100: seconds a step, hours, real-time factor.

    Derived, not measured: published peaks times a stated utilisation.
    """
    from flows.bench.budget import page

    typer.echo(page())


def report(missed: list[str], strict: bool) -> None:
    """What is demanded and was not reached, to standard error."""
    for line in missed:
        err.print(line, highlight=False)
    if strict and missed:
        raise typer.Exit(1)

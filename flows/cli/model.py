"""`backline train`, `generate` and `evaluate`: the model side."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import out

commands = typer.Typer()
Overrides = Annotated[list[str] | None, typer.Option("--set", help="Override a setting: section.key=value.")]


@commands.command()
def train(
    dataset: Annotated[Path, typer.Option(help="A built dataset, such as ROOT/datasets/demo.")],
    out_: Annotated[Path, typer.Option("--out", help="Folder of the run; an unfinished run in it is resumed.")],
    recipe: Annotated[
        str, typer.Option(help="demo, paper, upstream, an ablation such as demo-no-rtd, or a YAML file.")
    ] = "demo",
    processes: Annotated[int, typer.Option(min=1, help="Processes: one a GPU, or gloo processes on CPU.")] = 1,
    accelerate_config: Annotated[str, typer.Option(help="Path of an accelerate config, for DDP, FSDP or nodes.")] = "",
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Write train_run.json, print the launch line, stop.")
    ] = False,
    set_: Overrides = None,
) -> None:
    """Train the mask predictor: accelerate launch, stage 1, then stage 2.

    Example: backline train --dataset runs/mine/datasets/demo --out runs/mine/model
    """
    from flows.train_model import TrainParameters, train_model
    from flows.train_model import prepare as prepare_run

    parameters = TrainParameters(
        recipe=recipe,
        dataset=str(dataset.absolute()),
        out=str(out_),
        processes=processes,
        accelerate_config=accelerate_config,
        overrides=set_ or [],
    )
    if prepare:
        typer.echo(shlex.join(prepare_run(parameters)))
        return
    run = train_model(parameters)
    out.print(f"Run {run} finished; weights in {run / 'final'}.", soft_wrap=True)


@commands.command()
def generate(
    vocal: Annotated[
        list[Path], typer.Option(help="The voice: wav, flac, ogg, opus or mp3; may be given several times.")
    ],
    out_: Annotated[
        Path, typer.Option("--out", help="File of the accompaniment, exactly as long as the vocal; a folder for many.")
    ],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder of a training run, or of one checkpoint in it.")
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="Without --checkpoint: play the weights that were published for this recipe: upstream.")
    ] = "",
    text: Annotated[str, typer.Option(help="Style, instruments, mood; empty = no text.")] = "",
    reference: Annotated[Path | None, typer.Option(help="A recording whose sound to follow.")] = None,
    mix: Annotated[
        Path | None, typer.Option(help="Also write vocal and accompaniment together; a folder for many.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Denoising steps; else the recipe's, 60 in the paper.")
    ] = None,
    schedule: Annotated[str, typer.Option(help="cosine, linear, or power:x; else the recipe's.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same accompaniment.")] = 0,
    takes: Annotated[
        int, typer.Option(min=1, help="So many accompaniments of each voice, with seeds from --seed on.")
    ] = 1,
    batch: Annotated[
        int, typer.Option(min=1, help="So many voices and takes are denoised together; changes memory and time alone.")
    ] = 4,
    keep: Annotated[
        Path | None, typer.Option(help="An accompaniment made before: play only a section of it anew.")
    ] = None,
    from_seconds: Annotated[float, typer.Option(min=0, help="Where the section to play anew begins.")] = 0.0,
    to_seconds: Annotated[float, typer.Option(min=0, help="Where it ends.")] = float("inf"),
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting: sampler.key=value; with --recipe of any section."),
    ] = None,
) -> None:
    """Play a band behind a voice.

    Beside each file lies a trace, FILE.json: seed, settings, seconds and codes.

    Example: backline generate --checkpoint runs/mine/model --vocal me.wav --text "an acoustic folk track" --out
    band.wav

    Example, the second verse again: backline generate --checkpoint runs/mine/model --vocal me.wav --keep band.wav
    --from-seconds 40 --to-seconds 62 --seed 7 --out band-2.wav
    """
    from flows.generate import generate_files
    from flows.generate_request import GenerateRequest, Section

    if keep is None and (from_seconds > 0 or to_seconds < float("inf")):
        raise typer.BadParameter("--from-seconds and --to-seconds say what of --keep FILE is played anew: give --keep")
    if (checkpoint is None) == (not recipe):
        raise typer.BadParameter("give --checkpoint FOLDER; or --recipe upstream for the published weights")
    request = GenerateRequest(
        checkpoint=checkpoint or _published(recipe, set_ or []),
        vocals=tuple(vocal),
        out=out_,
        text=text,
        reference=reference,
        mix=mix,
        steps=steps,
        schedule=schedule,
        seed=seed,
        takes=takes,
        section=None if keep is None else Section(keep, from_seconds, to_seconds),
        batch=batch,
        overrides=() if checkpoint is None else tuple(set_ or []),
    )
    for written in generate_files(request):
        out.print(f"{written.path}: {written.seconds:.2f} s of accompaniment in {written.took:.1f} s.", soft_wrap=True)
    if not recipe:
        out.print("The embedded codec hears one channel up to 12 kHz and plays two equal channels.")


def _published(recipe: str, overrides: list[str]) -> Path:
    from flows.recipe import load_recipe
    from flows.released import released_checkpoint

    return released_checkpoint(load_recipe(recipe, overrides))


@commands.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Option(help="Folder of a training run, or of one checkpoint in it.")],
    dataset: Annotated[Path, typer.Option(help="The built dataset whose held-out songs to use.")],
    out_: Annotated[Path, typer.Option("--out", help="Folder for report.html, results.json and the audio.")],
    split: Annotated[str, typer.Option(help="test or val.")] = "test",
    recipe: Annotated[str, typer.Option(help="demo, paper, upstream, or the path of a YAML file.")] = "demo",
    set_: Overrides = None,
) -> None:
    """Generate for held-out songs, score the result between floors and a ceiling, and write a report page.

    Example: backline evaluate --checkpoint runs/mine/model --dataset runs/mine/datasets/demo --out runs/mine/report
    """
    from flows.evaluate_model import EvaluateParameters, evaluate_model

    report = evaluate_model(
        EvaluateParameters(
            recipe=recipe,
            checkpoint=str(checkpoint.absolute()),
            dataset=str(dataset.absolute()),
            out=str(out_.absolute()),
            split=split,
            overrides=set_ or [],
        )
    )
    out.print(f"Report: {report}", soft_wrap=True)

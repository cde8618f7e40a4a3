"""`backline codec`: train and measure the embedded codec."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.bench import DEFAULT_ROOT, material_of
from flows.cli.console import out
from flows.cli.folders import audio_files
from flows.cli.progress import bar, phases

commands = typer.Typer(help="Train and measure the embedded codec.", no_args_is_help=True)


@commands.callback()
def group() -> None:
    """Train and measure the embedded codec: one stream of 16384 codes, 25 a second."""


@commands.command()
def train(
    audio: Annotated[Path, typer.Option(help="Folder of music; files named vo* count as solo voices.")],
    out_: Annotated[Path, typer.Option("--out", help="The weights file to write (.safetensors).")],
    minutes: Annotated[float, typer.Option(min=0.1, help="About so many minutes on one core.")] = 20.0,
    seed: Annotated[int, typer.Option(min=0, help="Same files, seed and minutes, same weights.")] = 0,
    licence: Annotated[str, typer.Option(help="Licence of the weights, as every record will state it.")] = "unknown",
    device: Annotated[str, typer.Option(help="Where codebook and decoder are made: cpu or cuda.")] = "cpu",
) -> None:
    """Train codebook and decoder on a folder of audio; cut off, the same command goes on where it was.

    On a GPU, give a library of your own more minutes: each buys 40,000 points of the codebook, 100 steps of the
    decoder.

    Example: backline codec train --audio ~/Music/stems --out my-codec.safetensors --minutes 60
    """
    from pipeline.codec.train import CodecTrainingConfig
    from pipeline.codec.train import train as train_codec

    config = CodecTrainingConfig.for_minutes(minutes, seed=seed, licence=licence, device=device)
    with phases() as show:
        report = train_codec(audio_files(audio), out_, config, show)
    out.print(
        f"{report.weights}: {report.clips} clips, {report.audio_seconds / 60:.1f} minutes, {report.seconds:.0f} s."
    )
    out.print(f"Use it with --set codec.weights={report.weights}", soft_wrap=True)


@commands.command()
def evaluate(
    audio: Annotated[
        Path | None, typer.Option(help="Folder of audio that the codec was not trained on; else the test set.")
    ] = None,
    root: Annotated[Path, typer.Option(help="Where the frozen test set lies.")] = DEFAULT_ROOT,
    weights: Annotated[str, typer.Option(help="A weights file; else the shipped one.")] = "",
    songs: Annotated[int, typer.Option(min=0, help="Only the first so many of every kind; 0 = all.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Encode and decode recordings and print how much of the sound is left, between a floor and a ceiling.

    The floor is another clip in place of the copy; the ceiling is the true spectrogram through the codec's vocoder,
    which no codes can beat. Without --audio: real singers, real music, rendered voices and bands of the frozen test
    set (backline bench fetch, backline bench render). With it: files named vo* count as solo voices.
    """
    from flows.bench.codec import groups_of, listen
    from flows.bench.show import codec_json, codec_table
    from pipeline.codec.codec import CodecConfig, build

    codec = build(CodecConfig(weights=weights))
    groups = voices_and_rest(audio) if audio else groups_of(material_of(root, None, songs))
    if audio and songs:
        groups = {name: paths[:songs] for name, paths in groups.items()}
    with bar("evaluate", "clip") as show:
        heard = listen(codec, groups, show)
    if as_json:
        typer.echo(json.dumps(codec_json(heard)))
    else:
        out.print(codec_table(heard))


def voices_and_rest(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The audio files of a folder in two groups, by their names."""
    from pipeline.codec.corpus import CorpusConfig

    files, start = audio_files(folder), CorpusConfig().voice_name
    return {
        "voices": tuple(path for path in files if path.name.startswith(start)),
        "music": tuple(path for path in files if not path.name.startswith(start)),
    }

"""`backline library`: a published collection, or an object store's prefix, becomes a manifest that builds take."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import out

commands = typer.Typer()


@commands.command()
def library(
    kind: Annotated[
        str, typer.Argument(help="folder, prefix, suno70k, mtg-jamendo, fma, musdb18-hq or moisesdb: its layout.")
    ],
    place: Annotated[str, typer.Argument(help="Where the publisher's download left it; of a prefix, its URL.")],
    out_: Annotated[Path, typer.Option("--out", help="The manifest to write (.csv).")] = Path("manifest.csv"),
    stems: Annotated[
        Path | None, typer.Option(help="Folder for stems that have to be mixed; else stems, beside the manifest.")
    ] = None,
) -> None:
    """Write the manifest of a published collection: split, artist, text, licence and true stems.

    Songs with true stems are not separated. The licence of every song stands on the data card.

    Example: backline library musdb18-hq ~/musdb18hq --out runs/musdb.csv && backline build --library runs/musdb.csv
    """
    from collections import Counter

    from pipeline.records.layouts import read, write_manifest

    songs = read(kind, place, stems or out_.parent / "stems")
    write_manifest(songs, out_)
    out.print(f"{out_}: {len(songs)} songs, {sum(bool(song.vocal) for song in songs)} with true stems", soft_wrap=True)
    for licence, count in Counter(song.licence or "not stated" for song in songs).most_common():
        out.print(f"  {count} songs: {licence}", highlight=False, soft_wrap=True)

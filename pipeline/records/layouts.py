"""Published collections, as they unpack, -> the songs that they name, with licence, split, text and true stems.

Conventions: one reader a collection, `READERS`; each takes the folder that the publisher's archive or download script
leaves, and a folder for stems where it has to mix some. A song's licence is the one that its collection states for it.
What lacks its audio is left out and counted. Layouts: SongEcho's README (Suno70k), MTG-Jamendo's and FMA's data
folders, sigsep's MUSDB18-HQ, moises-ai's loader (MoisesDB).
"""

import csv
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa

from pipeline.audio import DecodeLimits, decode, write
from pipeline.errors import BadInput
from pipeline.records.content import client_errors
from pipeline.records.library import AUDIO_SUFFIXES, COLUMNS, Source, scan_library
from pipeline.types import Audio

logger = logging.getLogger(__name__)

MUSDB = "MUSDB18-HQ: academic use only"
MOISES = "CC-BY-NC-SA-4.0"
SUNO = "audio by Suno's terms; metadata CC0-1.0"
SPLITS = {"training": "train", "train": "train", "validation": "val", "valid": "val", "test": "test"}
STEM = DecodeLimits(min_seconds=0.0, min_sample_rate=1, silence_dbfs=-1000.0)  # a stem may be short or silent
FULL_SCALE = 0.999  # of a sum that would clip
SUNO_TAGS = 20  # at most, as SongEcho keeps them


def read(kind: str, place: str, stems: Path) -> list[Source]:
    """The songs of a collection of that kind; `BadInput` where the place has not its layout."""
    if kind not in READERS:
        raise ValueError(f"no reader for {kind!r}; there are {', '.join(READERS)}")
    try:
        songs = list(READERS[kind](place, stems))
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise BadInput(f"{place} has not the layout of {kind}: {error!r}", "library_kind") from error
    if not songs:
        raise BadInput(
            f"{place} holds no song of {kind}; its audio must lie where the publisher's download puts it",
            "library_empty",
        )
    return songs


def write_manifest(songs: Iterable[Source], path: Path) -> None:
    """As `scan_library` reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(name for name in COLUMNS if name != "uri")
        table.writerows((s.uri, s.split, s.artist, s.text, s.licence, s.vocal, s.accompaniment) for s in songs)


def folder(place: str, stems: Path) -> Iterator[Source]:
    """A folder or manifest, as every build takes it."""
    yield from scan_library(place)


def prefix(place: str, stems: Path) -> Iterator[Source]:
    """Every audio object below a URL of an object store, ``s3://bucket/prefix``."""
    protocol, _, path = place.partition("://")
    if not path:
        raise ValueError("a prefix is a URL like s3://bucket/folder")
    with client_errors(place):
        found = fsspec.filesystem(protocol).find(path)
    names = (name for name in sorted(found) if name.lower().endswith(AUDIO_SUFFIXES))
    yield from (Source(f"{protocol}://{name}") for name in names if not name.rpartition("/")[2].startswith("."))


def suno70k(place: str, stems: Path) -> Iterator[Source]:
    """SongEcho's metadata: songs by URL, or as ``<id>.mp3`` in ``audio`` where they were fetched.

    The text is Suno's own tags and those of Qwen2-Audio's captions, each once, at most 20. The 1,000 that SongEcho
    holds out are test songs here: its repository's folder ``suno70k_prompt_val``, in this one or beside it, names them,
    or ``val_ids.txt`` in it (one id a line).
    """
    root = Path(place)
    heard = {
        Path(row["path"]).stem: row["Qwen_caption"] for row in _json(root / "qwen2_caption_v2_postprocess.json", [])
    }
    held_out = {*_lines(root / "val_ids.txt"), *_suno_validation(root), *_suno_validation(root.parent)}
    for line in _lines(root / "suno70k_metadata.jsonl", required=True):
        song = json.loads(line)
        local = root / "audio" / f"{song['id']}.mp3"
        tags = _split_tags(song["metadata"].get("tags") or "") + _split_tags(heard.get(song["id"], ""))
        text = ", ".join(list(dict.fromkeys(tags))[:SUNO_TAGS])
        split = ("test" if song["id"] in held_out else "train") if held_out else ""
        yield Source(str(local.resolve()) if local.is_file() else song["audio_url"], split, text=text, licence=SUNO)


def mtg_jamendo(place: str, stems: Path) -> Iterator[Source]:
    """The repository's ``data`` and ``audio_licenses.txt``, with the songs below ``audio``; split 0."""
    root = Path(place)
    licences = _jamendo_licences(_lines(root / "audio_licenses.txt", required=True))
    splits = {
        track: SPLITS[name]
        for name in ("train", "validation", "test")
        for track, *_ in _tsv(root / "data" / "splits" / "split-0" / f"autotagging-{name}.tsv")
    }
    rows = _tsv(root / "data" / "autotagging.tsv") or _tsv(root / "data" / "raw_30s_cleantags.tsv")
    for track, artist, _, path, _, *tags in rows:
        audio = _first(root / "audio" / path, root / "audio" / path.replace(".mp3", ".low.mp3"))
        if audio is not None:
            words = ", ".join(tag.partition("---")[2] for tag in tags if "---" in tag)
            yield Source(str(audio), splits.get(track, ""), artist, words, licences.get(path, "not stated"))


def fma(place: str, stems: Path) -> Iterator[Source]:
    """``fma_metadata/tracks.csv`` and one of ``fma_full``, ``fma_large``, ``fma_medium``, ``fma_small``."""
    root = Path(place)
    sizes = [root / f"fma_{size}" for size in ("full", "large", "medium", "small") if (root / f"fma_{size}").is_dir()]
    with (root / "fma_metadata" / "tracks.csv").open(encoding="utf-8", newline="") as file:
        groups, names, *rows = csv.reader(file)
    column = {pair: index for index, pair in enumerate(zip(groups, names, strict=True))}
    wanted = {name: column[pair] for name, pair in FMA_COLUMNS.items()}
    for row in rows:
        if not row[0].isdigit():  # the third line of the head
            continue
        number = f"{int(row[0]):06d}"
        audio = _first(*(size / number[:3] / f"{number}.mp3" for size in sizes))
        if audio is not None:
            cell = {name: row[index].strip() for name, index in wanted.items()}
            licence = cell["licence"] or "not stated"
            yield Source(str(audio), SPLITS.get(cell["split"], ""), cell["artist"], cell["genre"], licence)


FMA_COLUMNS = {
    "split": ("set", "split"),
    "artist": ("artist", "name"),
    "genre": ("track", "genre_top"),
    "licence": ("track", "license"),
}


def musdb18_hq(place: str, stems: Path) -> Iterator[Source]:
    """``train`` and ``test`` with a folder a song: true stems, so nothing is separated."""
    for split in ("train", "test"):
        for song in sorted(path.parent for path in (Path(place) / split).glob("*/mixture.wav")):
            made = stems / "musdb18-hq" / song.name
            _mix({"accompaniment": [song / f"{name}.wav" for name in ("drums", "bass", "other")]}, made)
            artist = song.name.partition(" - ")[0] if " - " in song.name else ""
            vocal = str((song / "vocals.wav").resolve())
            yield Source(
                str((song / "mixture.wav").resolve()),
                split,
                artist,
                "",
                MUSDB,
                vocal,
                str((made / "accompaniment.flac").resolve()),
            )


def moisesdb(place: str, stems: Path) -> Iterator[Source]:
    """A folder a song with ``data.json`` and its tracks by stem; songs whose vocals have bleed in them are left out."""
    bled = 0
    for facts in sorted(Path(place).rglob("data.json")):
        song = json.loads(facts.read_text(encoding="utf-8"))
        tracks = [(stem["stemName"], track) for stem in song["stems"] for track in stem["tracks"]]
        place_of = {id(track): facts.parent / name / f"{track['id']}.{track['extension']}" for name, track in tracks}
        sung = [place_of[id(track)] for name, track in tracks if name == "vocals"]
        played = [place_of[id(track)] for name, track in tracks if name != "vocals"]
        if any(track.get("has_bleed") for name, track in tracks if name == "vocals"):
            bled += 1
        elif sung and played:
            made = stems / "moisesdb" / facts.parent.name
            _mix({"vocal": sung, "accompaniment": played, "mixture": sung + played}, made)
            paths = [str((made / f"{name}.flac").resolve()) for name in ("mixture", "vocal", "accompaniment")]
            yield Source(paths[0], "", song.get("artist", ""), song.get("genre", ""), MOISES, *paths[1:])
    logger.info("moisesdb: %d songs left out, other instruments bleed into their vocals", bled)


READERS: Mapping[str, Callable[[str, Path], Iterator[Source]]] = {
    "folder": folder, "prefix": prefix, "suno70k": suno70k, "mtg-jamendo": mtg_jamendo, "fma": fma,
    "musdb18-hq": musdb18_hq, "moisesdb": moisesdb,
}  # fmt: skip


def _mix(sums: Mapping[str, Sequence[Path]], target: Path) -> None:
    """Write the sums of recordings as FLAC files, once; where several are written, at one gain at which none clips."""
    if all((target / f"{name}.flac").exists() for name in sums):
        return
    made = {name: _sum(paths) for name, paths in sums.items()}
    peak = max(float(np.abs(audio.samples).max(initial=0.0)) for audio in made.values())
    gain = np.float32(min(1.0, FULL_SCALE / peak) if len(made) > 1 and peak else 1.0)
    target.mkdir(parents=True, exist_ok=True)
    for name, audio in made.items():
        write(target / f"{name}.flac", Audio(audio.samples * gain, audio.sample_rate))


def _sum(paths: Sequence[Path]) -> Audio:
    """Stereo, as long as the longest; `BadInput` where the rates differ."""
    parts = [decode(str(path), STEM) for path in paths]
    rates = {part.sample_rate for part in parts}
    if len(rates) > 1:
        raise BadInput(f"{paths[0].parent} has tracks of rates {sorted(rates)}; resample them to one", "library_kind")
    total = np.zeros((2, max(part.length for part in parts)), np.float32)
    for part in parts:
        total[:, : part.length] += part.samples  # of one channel: into both
    return Audio(total, rates.pop())


def _suno_validation(folder: Path) -> list[str]:
    """Ids in a data set that Hugging Face's `datasets` saved; none where there is no such folder."""
    parts = sorted((folder / "suno70k_prompt_val").glob("*.arrow"))
    return [key for part in parts for key in pa.ipc.open_stream(part.read_bytes()).read_all()["keys"].to_pylist()]


def _jamendo_licences(lines: Sequence[str]) -> dict[str, str]:
    """Path -> licence, of blocks of a path, a title and a line that ends with the licence's URL."""
    found, path = {}, ""
    for line in lines:
        if line.endswith(".mp3") and " " not in line:
            path = line
        elif "license: " in line and path:
            found[path] = line.rpartition("license: ")[2]
    return found


def _split_tags(text: str | Sequence[str]) -> list[str]:
    words = text.split(",") if isinstance(text, str) else text
    return [word.strip().lower() for word in words if word.strip()]


def _first(*paths: Path) -> Path | None:
    return next((path.resolve() for path in paths if path.is_file()), None)


def _tsv(path: Path) -> list[list[str]]:
    """Rows without the head; none where there is no such file."""
    return [line.split("\t") for line in _lines(path)[1:]]


def _lines(path: Path, required: bool = False) -> list[str]:
    """Lines that are not empty; none where a file that may be missing is."""
    if not required and not path.is_file():
        return []
    return [line.strip("\r\n") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _json(path: Path, default: list[dict[str, str]]) -> list[dict[str, str]]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default

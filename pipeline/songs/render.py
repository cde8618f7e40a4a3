"""Render songs, podcasts and instrumentals with known truth, one folder each, and the library around them.

Conventions: 48 kHz stereo, 16-bit FLAC; mix = vocal + accompaniment, exact in integers; `truth.json` is written
last, it makes a folder finished. Needs the extra `songs` (GPL parts: espeak-ng, TimGM6mb), else `BackendUnavailable`.
"""

import csv
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from pipeline.songs.arranger import Arranger, Track
from pipeline.songs.band import play
from pipeline.songs.composer import compose
from pipeline.songs.faults import FormFault
from pipeline.songs.mixing import Mix, Stems, Stereo, balance, blend, draw_mix, duck, even, pan, place_voices, rms
from pipeline.songs.podcast import read_aloud
from pipeline.songs.score import RATE, Score
from pipeline.songs.singers import singer_for
from pipeline.songs.singing import sing
from pipeline.songs.styles import styles
from pipeline.songs.talking import talk
from pipeline.songs.truth import Kind, Truth, is_current, read_truth, song_truth, speech_truth

logger = logging.getLogger(__name__)
SecondsRange = tuple[float, float]
Progress = Callable[[int, int], None]
DEFAULT_SECONDS: SecondsRange = (60.0, 90.0)  # s, ours
RING = 1.5  # s after the last bar
MANIFEST = "manifest.csv"
COLUMNS = ("path", "split", "artist", "text", "licence", "vocal", "accompaniment")


@dataclass(frozen=True, slots=True)
class RenderedSong:
    """The four files of one folder."""

    folder: Path

    @property
    def mix(self) -> Path:
        return self.folder / "mix.flac"

    @property
    def vocal(self) -> Path:
        return self.folder / "vocal.flac"

    @property
    def accompaniment(self) -> Path:
        return self.folder / "accompaniment.flac"

    @property
    def truth(self) -> Path:
        return self.folder / "truth.json"

    def finished(self, seconds: SecondsRange) -> bool:
        """Rendered completely, by this version, and for this range of lengths."""
        return is_current(self.truth) and read_truth(self.truth).asked_seconds == seconds


def render_song(
    seed: int, out_dir: Path, seconds: SecondsRange = DEFAULT_SECONDS, fault: FormFault = ""
) -> RenderedSong:
    """A sung song in `out_dir/song-<seed>`; the same arguments give the same bytes.

    With a form fault it is another song, up to a minute longer, in `out_dir/song-<fault>-<seed>`.
    """
    singer = singer_for(seed)
    score = compose(seed, seconds, (singer.low, singer.high), fault=fault)
    samples = _length(score)
    mix = draw_mix(score, *styles()[score.style].reverb)
    others = [singer_for(seed, f"backing {n}", near=singer) for n in range(len(score.backing))]
    backing = [
        sing(score, voice.sung, other, samples, f"backing voice {n}")
        for n, (voice, other) in enumerate(zip(score.backing, others, strict=True))
    ]
    speech, sentences = talk(score, samples)
    lead = sing(score, score.sung, singer, samples)
    vocal = place_voices(lead, backing, mix, score)
    if sentences:
        vocal += pan(speech * (rms(vocal) / rms(speech)), 0.0)
    tracks, band = _accompany(score, samples, mix)
    truth = song_truth(score, tracks, samples, seconds, mix, (singer, *others), fault, sentences)
    return _write(out_dir, balance(vocal, band, mix, seed), truth)


def render_instrumental(seed: int, out_dir: Path, seconds: SecondsRange = DEFAULT_SECONDS) -> RenderedSong:
    """A song without words in `out_dir/instrumental-<seed>`; its vocal is silence."""
    score = compose(seed, seconds, (56, 74), sung=False)
    samples = _length(score)
    mix = draw_mix(score, *styles()[score.style].reverb)
    tracks, band = _accompany(score, samples, mix)
    truth = song_truth(score, tracks, samples, seconds, mix)
    return _write(out_dir, balance(np.zeros_like(band), band, mix, seed), truth)


def render_speech(seed: int, out_dir: Path, seconds: SecondsRange = DEFAULT_SECONDS) -> RenderedSong:
    """A spoken podcast in `out_dir/speech-<seed>`; its accompaniment is silence."""
    spoken = read_aloud(seed, seconds)
    voice = pan(spoken.samples, 0.0)
    truth = speech_truth(seed, spoken, voice.shape[1], seconds)
    return _write(out_dir, even(voice), truth)


def folder_name(kind: Kind, fault: FormFault, seed: int) -> str:
    """``song-7``, ``song-no_chorus-7``, ``speech-7``, ``instrumental-7``."""
    return "-".join(filter(None, (kind, fault, str(seed))))


def _render(kind: Kind, seed: int, out_dir: Path, seconds: SecondsRange, fault: FormFault) -> RenderedSong:
    if kind == "song":
        return render_song(seed, out_dir, seconds, fault)
    return (render_speech if kind == "speech" else render_instrumental)(seed, out_dir, seconds)


def render_library(
    out_dir: Path,
    count: int,
    seed: int = 0,
    kind: Kind = "song",
    progress: Progress | None = None,
    workers: int = 1,
    seconds: SecondsRange = DEFAULT_SECONDS,
    fault: FormFault = "",
) -> Path:
    """`count` files of one kind with seeds from `seed` up, and the manifest; what an equal call finished is kept.

    `progress(done, count)` is called after each. Returns the manifest's path. A fault is for songs, else `ValueError`.
    """
    if fault and kind != "song":
        raise ValueError(f"the form fault {fault!r} is one of songs, not of kind {kind!r}: leave it out")
    out_dir.mkdir(parents=True, exist_ok=True)
    todo = [
        s
        for s in range(seed, seed + count)
        if not RenderedSong(out_dir / folder_name(kind, fault, s)).finished(seconds)
    ]
    done = count - len(todo)
    logger.info("%d of %d %s files are there, %d to render", done, count, fault or kind, len(todo))
    for _ in _rendered(todo, out_dir, kind, workers, seconds, fault):
        done += 1
        if progress:
            progress(done, count)
    return write_manifest(out_dir)


def _rendered(
    todo: list[int], out_dir: Path, kind: Kind, workers: int, seconds: SecondsRange, fault: FormFault
) -> Iterator[RenderedSong]:
    if workers <= 1:
        for seed in todo:
            yield _render(kind, seed, out_dir, seconds, fault)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(_render, kind, seed, out_dir, seconds, fault) for seed in todo]
        for job in as_completed(jobs):
            yield job.result()


def split_of(seed: int) -> str:
    """Every fourth seed is a test song, every eighth a validation song: more songs never move one."""
    return "test" if seed % 4 == 3 else "val" if seed % 8 == 5 else "train"


def write_manifest(out_dir: Path) -> Path:
    """`manifest.csv` of what this version finished, paths relative to it; only test songs name their true stems."""
    rows = []
    for path in sorted(path for path in out_dir.glob("*/truth.json") if is_current(path)):
        truth, name = read_truth(path), path.parent.name
        stems = truth.kind == "song" and split_of(truth.seed) == "test"
        files = (f"{name}/vocal.flac", f"{name}/accompaniment.flac") if stems else ("", "")
        rows.append((f"{name}/mix.flac", split_of(truth.seed), truth.artist, truth.text, truth.licence, *files))
    partial = out_dir / f".{MANIFEST}.{os.getpid()}"
    with partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    os.replace(partial, out_dir / MANIFEST)
    return out_dir / MANIFEST


def _length(score: Score) -> int:
    return round((score.seconds(score.beats) + RING) * RATE)


def _accompany(score: Score, samples: int, mix: Mix) -> tuple[tuple[Track, ...], Stereo]:
    tracks = Arranger(score).tracks()
    band = blend(tracks, [play(track, samples) for track in tracks], mix, score.seed)
    for part in (part for part in score.parts if part.spoken):
        duck(band, score.seconds(part.start), score.seconds(part.end), mix.duck)
    return tracks, band


def _write(out_dir: Path, stems: Stems, truth: Truth) -> RenderedSong:
    song = RenderedSong(out_dir / folder_name(truth.kind, truth.fault, truth.seed))
    song.folder.mkdir(parents=True, exist_ok=True)
    for path, samples in ((song.mix, stems.mix), (song.vocal, stems.vocal), (song.accompaniment, stems.accompaniment)):
        soundfile.write(path, samples, RATE, subtype="PCM_16", format="FLAC")
    partial = song.folder / f".truth.{os.getpid()}"
    partial.write_text(truth.to_json(), encoding="utf-8")
    os.replace(partial, song.truth)
    logger.debug("%s: %.1f s, %s, %s", song.folder.name, truth.duration, truth.style, truth.key)
    return song

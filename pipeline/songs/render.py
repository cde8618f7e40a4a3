"""Render songs, podcasts and instrumentals with known truth, one folder each, and the library around them.

Conventions: 48 kHz stereo, 16-bit FLAC; mix = vocal + accompaniment, exact in integers; `truth.json` is written last, so a
folder that has it is finished. Needs the extra `songs` (it loads GPL parts: espeak-ng, TimGM6mb), `BackendUnavailable` without.
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

from pipeline.songs.arranger import Arranger, Track, describe
from pipeline.songs.band import RATE, play
from pipeline.songs.composer import compose
from pipeline.songs.mixing import Stems, Stereo, balance, blend, pan, room, wet
from pipeline.songs.podcast import read_aloud
from pipeline.songs.score import BEATS_PER_BAR, Score
from pipeline.songs.singing import sing, singer_for
from pipeline.songs.styles import STYLES
from pipeline.songs.truth import (
    RENDERER_VERSION, InstrumentTruth, Kind, SectionTruth, Truth, WordTruth, beat_truth, chord_truth, lyrics_text, note_truth,
    read_truth, section_truth, word_truth,
)  # fmt: skip
from pipeline.songs.voice import SINGERS

logger = logging.getLogger(__name__)
Seconds2 = tuple[float, float]
Progress = Callable[[int, int], None]
DEFAULT_SECONDS: Seconds2 = (60.0, 90.0)  # s, issue 2
RING = 1.5  # s after the last bar
LICENCE = "own work; sounds rendered with espeak-ng (GPL-3.0) and TimGM6mb (GPL-2.0)"
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

    @property
    def finished(self) -> bool:
        return self.truth.is_file()


def render_song(seed: int, out_dir: Path, seconds: Seconds2 = DEFAULT_SECONDS) -> RenderedSong:
    """A sung song in `out_dir/song-<seed>`; the same seed and seconds give the same bytes."""
    singer = singer_for(seed, SINGERS)
    score = compose(seed, seconds, (singer.low, singer.high))
    samples = _length(score)
    tracks, band = _accompany(score, samples)
    voice = sing(score, singer, samples)
    response = room(seed + 1, STYLES[score.style].reverb[0])
    vocal = wet(pan(voice, 0.0), response, 0.6 * STYLES[score.style].reverb[1])
    return _write(out_dir, balance(vocal, band, seed), _song_truth(score, tracks, samples, "song", singer.name))


def render_instrumental(seed: int, out_dir: Path, seconds: Seconds2 = DEFAULT_SECONDS) -> RenderedSong:
    """A song without words in `out_dir/instrumental-<seed>`; its vocal is silence."""
    score = compose(seed, seconds, (56, 74), sung=False)
    samples = _length(score)
    tracks, band = _accompany(score, samples)
    truth = _song_truth(score, tracks, samples, "instrumental", "")
    return _write(out_dir, balance(np.zeros_like(band), band, seed), truth)


def render_speech(seed: int, out_dir: Path, seconds: Seconds2 = DEFAULT_SECONDS) -> RenderedSong:
    """A spoken podcast in `out_dir/speech-<seed>`; its accompaniment is silence."""
    spoken = read_aloud(seed, seconds)
    voice = pan(spoken.samples, 0.0)
    words = tuple(WordTruth(round(a, 6), round(b, 6), text) for a, b, text in spoken.sentences)
    duration = voice.shape[1] / RATE
    truth = Truth(
        "speech", seed, RENDERER_VERSION, f"About {spoken.topic}", "Backline Radio", LICENCE, duration, voice.shape[1], "speech",
        "A person talks.", "+".join(spoken.voices), "", 0.0, (SectionTruth(0.0, round(duration, 6), "silence"),), (), (), (), (), words,
        "\n".join(word.text for word in words), (),
    )  # fmt: skip
    return _write(out_dir, balance(voice, np.zeros_like(voice), seed), truth)


RENDERERS: dict[Kind, Callable[[int, Path, Seconds2], RenderedSong]] = {
    "song": render_song,
    "speech": render_speech,
    "instrumental": render_instrumental,
}


def render_library(
    out_dir: Path,
    count: int,
    seed: int = 0,
    kind: Kind = "song",
    progress: Progress | None = None,
    workers: int = 1,
    seconds: Seconds2 = DEFAULT_SECONDS,
) -> Path:
    """`count` files of one kind with seeds from `seed` up, and the manifest of all finished folders; finished ones are kept.

    `progress(done, count)` is called after each. Returns the manifest's path.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    todo = [s for s in range(seed, seed + count) if not RenderedSong(out_dir / f"{kind}-{s}").finished]
    done = count - len(todo)
    logger.info("%d of %d %s files are there, %d to render", done, count, kind, len(todo))
    for _ in _rendered(todo, out_dir, kind, workers, seconds):
        done += 1
        if progress:
            progress(done, count)
    return write_manifest(out_dir)


def _rendered(todo: list[int], out_dir: Path, kind: Kind, workers: int, seconds: Seconds2) -> Iterator[RenderedSong]:
    if workers <= 1:
        for seed in todo:
            yield RENDERERS[kind](seed, out_dir, seconds)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(RENDERERS[kind], seed, out_dir, seconds) for seed in todo]
        for job in as_completed(jobs):
            yield job.result()


def split_of(seed: int) -> str:
    """Every fourth seed is a test song, every eighth a validation song: more songs never move one."""
    return "test" if seed % 4 == 3 else "val" if seed % 8 == 5 else "train"


def write_manifest(out_dir: Path) -> Path:
    """`manifest.csv` of all finished folders in `out_dir`; paths are relative to it. Only test songs name their true stems."""
    rows = []
    for path in sorted(out_dir.glob("*/truth.json")):
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


def _accompany(score: Score, samples: int) -> tuple[tuple[Track, ...], Stereo]:
    tracks = Arranger(score).tracks()
    seconds, share = STYLES[score.style].reverb
    return tracks, blend(tracks, [play(track, samples) for track in tracks], room(score.seed, seconds), share)


def _song_truth(score: Score, tracks: tuple[Track, ...], samples: int, kind: Kind, voice: str) -> Truth:
    duration = samples / RATE
    beats = beat_truth(score)
    instruments = tuple(
        InstrumentTruth(t.name, t.program, t.drums, tuple(round(s.start, 4) for s in t.strikes)) for t in tracks
    )
    return Truth(
        kind, score.seed, RENDERER_VERSION, score.title, score.artist, LICENCE, duration, samples, score.style,
        describe(score, tracks), voice, score.key.name, score.tempo, section_truth(score, duration), beats, beats[::BEATS_PER_BAR],
        chord_truth(score), note_truth(score), word_truth(score), lyrics_text(score), instruments,
    )  # fmt: skip


def _write(out_dir: Path, stems: Stems, truth: Truth) -> RenderedSong:
    song = RenderedSong(out_dir / f"{truth.kind}-{truth.seed}")
    song.folder.mkdir(parents=True, exist_ok=True)
    for path, samples in ((song.mix, stems.mix), (song.vocal, stems.vocal), (song.accompaniment, stems.accompaniment)):
        soundfile.write(path, samples, RATE, subtype="PCM_16", format="FLAC")
    partial = song.folder / f".truth.{os.getpid()}"
    partial.write_text(truth.to_json(), encoding="utf-8")
    os.replace(partial, song.truth)
    logger.debug("%s: %.1f s, %s, %s", song.folder.name, truth.duration, truth.style, truth.key)
    return song

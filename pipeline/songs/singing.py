"""Singing: syllables on notes -> frames of pitch and spectrum -> a voice.

Conventions: frames of 5 ms; melody in MIDI semitones until it is turned into Hz at the end; spectra are natural logs of
power at every second bin of WORLD's; consonants sound before the beat, so that the vowel starts on it. Output 48 kHz
mono float64.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, uniform_filter1d
from scipy.signal import butter, resample_poly, sosfilt

from pipeline.songs.extra import require
from pipeline.songs.score import RATE, Score, Sung, stream
from pipeline.songs.singers import Singer
from pipeline.songs.voice import FLOOR, FRAME, Analysed, cache_folder, syllables, vocabulary

Floats = NDArray[np.float64]
ONSET_LIMIT = 24.0  # frames: consonants before a vowel last at most 0.12 s
CODA_LIMIT = 22.0  # frames
VOWEL_NOISE = -4.4  # dB, the most noise that a held vowel has before the singer's own breath
BREATH_LEVEL = 0.012  # RMS of a breath at its loudest, the voice peaks at 1; ours, by eye on spectrograms
BRIDGE = 60  # frames: shorter rests are synthesised along
MARGIN = 12  # frames around a sung stretch
DB = np.log(10) / 10  # natural log of power, a decibel
TREMOR = 0.06  # share of the level that vibrato moves; ours


def sing(score: Score, sung: tuple[Sung, ...], singer: Singer, samples: int, role: str = "voice") -> Floats:
    """One dry voice, [samples] at 48 kHz; silent where it doesn't sing. `role` names the random numbers it uses."""
    words = vocabulary(singer.voice)
    words.learn({score.words[s.word].text for s in sung}, cache_folder())
    take = _Take(score, sung, singer, int(np.ceil(samples / RATE / FRAME)) + 2, role)
    for index, syllable in enumerate(sung):
        take.place(index, syllable, words[score.words[syllable.word].text])
    return take.render(samples)


class _Take:
    """Frames of a whole song, filled syllable by syllable."""

    def __init__(self, score: Score, sung: tuple[Sung, ...], singer: Singer, frames: int, role: str) -> None:
        self.score, self.sung, self.singer, self.frames = score, sung, singer, frames
        self.rng = stream(score.seed, role)
        self.late = 0.0 if role == "voice" else float(self.rng.normal(0, 0.012))  # s; singers never start together
        self.melody = np.full(frames, np.nan)
        self.voiced = np.zeros(frames, dtype=bool)
        self.gain = np.zeros(frames)
        self.effort = np.zeros(frames)
        self.breath = np.zeros(frames)
        self.busy_until = 0
        self.spectrum = np.zeros((0, 0), dtype=np.float32)
        self.aperiodicity = np.zeros((0, 0), dtype=np.float32)
        self.rate = 0

    def frame(self, beats: float) -> int:
        return max(0, round((self.score.seconds(beats) + self.late) / FRAME))

    def place(self, index: int, sung: Sung, word: Analysed) -> None:
        """Write one syllable: consonants, held vowel, closing consonants."""
        count = len(self.score.words[sung.word].syllables)
        start, vowel, vowel_end, end = syllables(word, count)[sung.syllable]
        beat, stop = self.frame(sung.start), min(self.frame(sung.end), self._next_onset(index))
        lead = int(min(vowel - start, ONSET_LIMIT, max(0, beat - self.busy_until)))
        tail = int(min(end - vowel_end, CODA_LIMIT, 0.35 * (stop - beat)))
        source = np.concatenate([
            np.linspace(start, vowel, lead, endpoint=False),
            _held(vowel, vowel_end, stop - beat - tail, self.rng),
            np.linspace(vowel_end, end, tail),
        ])  # fmt: skip
        frames = np.arange(beat - lead, beat - lead + len(source))
        inside = (frames >= 0) & (frames < self.frames)
        if not inside.any():
            return
        self._write(frames[inside], np.clip(source[inside], 0, len(word.voiced) - 1.001), word, (beat, stop - tail))
        self._tune(sung, frames[inside], beat)
        self.gain[frames[inside]] = self._loudness(len(source), sung, self._tied(index))[inside]
        self.effort[frames[inside]] = sung.effort
        if sung.opens:
            self._breathe(beat - lead, sung.effort)
        self.busy_until = stop

    def _next_onset(self, index: int) -> int:
        """The frame where the next syllable's consonants need room: a little before its beat."""
        if index + 1 >= len(self.sung):
            return self.frames
        following = self.sung[index + 1]
        return self.frame(following.start) - (12 if not following.opens else 0)

    def _tied(self, index: int) -> tuple[bool, bool]:
        """Whether a syllable follows the one before it without a rest, and whether the next one follows it so."""

        def tied(number: int) -> bool:
            if not 0 < number < len(self.sung):
                return False
            before, after = self.sung[number - 1 : number + 1]
            return not after.opens and after.start - before.end < 0.05

        return tied(index), tied(index + 1)

    def _write(self, frames: NDArray[np.int64], source: Floats, word: Analysed, vowel: tuple[int, int]) -> None:
        if not self.rate:
            shape = (self.frames, word.spectrum.shape[1]), (self.frames, word.aperiodicity.shape[1])
            self.spectrum = np.full(shape[0], np.log(FLOOR), dtype=np.float32)
            self.aperiodicity = np.zeros(shape[1], dtype=np.float32)
            self.rate = word.rate
        low = source.astype(int)
        part = (source - low).astype(np.float32)[:, None]
        self.spectrum[frames] = (1 - part) * word.spectrum[low] + part * word.spectrum[low + 1]
        self.aperiodicity[frames] = (1 - part) * word.aperiodicity[low] + part * word.aperiodicity[low + 1]
        held = (frames >= vowel[0]) & (frames < vowel[1])
        self.voiced[frames] = word.voiced[np.rint(source).astype(int)] | held
        noise = np.minimum(self.aperiodicity[frames[held]], VOWEL_NOISE - 6) + self.singer.breath
        self.aperiodicity[frames[held]] = np.minimum(noise, -0.5)

    def _tune(self, sung: Sung, frames: NDArray[np.int64], beat: int) -> None:
        for number, tone in enumerate(sung.tones):
            begin = frames[0] if number == 0 else self.frame(tone.start)
            end = min(self.frame(tone.start + tone.length), self.frames)
            self.melody[begin : max(end, frames[-1] + 1 if number == len(sung.tones) - 1 else end)] = tone.pitch
        if sung.opens and self.rng.random() < self.singer.scoops:
            scoop = self.melody[beat : beat + 24]
            scoop -= float(self.rng.uniform(0.6, 1.8)) * np.linspace(1, 0, len(scoop))

    def _loudness(self, length: int, sung: Sung, tied: tuple[bool, bool]) -> Floats:
        """Gain of a syllable; inside a line the voice goes on from one to the next."""
        envelope = np.ones(length)
        attack, release = min(8, length // 3), min(10 if tied[1] else 18, length // 3)
        envelope[:attack] = np.linspace(0.75 if tied[0] else 0.35, 1, attack)
        envelope[length - release :] *= np.linspace(1, 0.75 if tied[1] else 0.25, release)
        swell = 1 + 0.2 * np.sin(np.pi * np.linspace(0, 1, length) ** float(self.rng.uniform(0.6, 1.6)))
        height = (sung.tones[0].pitch - self.singer.low) / (self.singer.high - self.singer.low)
        touch = 1 + 0.08 * float(self.rng.normal())
        return np.asarray(envelope * swell * touch * (0.5 + 0.45 * sung.effort + 0.2 * height))

    def _breathe(self, before: int, effort: float) -> None:
        """An audible breath in the 0.3 s before a line, where there is room."""
        length = min(56, before - self.busy_until - 4)
        if length > 24:
            shape = np.sin(np.pi * np.linspace(0, 1, length)) ** 2
            self.breath[before - length - 2 : before - 2] = shape * (0.5 + 0.5 * effort) * self.singer.breaths

    def render(self, samples: int) -> Floats:
        """Frames -> samples: WORLD's synthesis stretch by stretch, plus air above its band and breaths."""
        out = np.zeros(samples)
        if not self.rate:
            return out
        hertz = np.where(self.voiced, 440 * 2 ** ((self._melody() - 69) / 12), 0.0)
        for begin, end in _stretches(self.gain > 0):
            a, b = max(0, begin - MARGIN), min(self.frames, end + MARGIN)
            piece = self._synthesise(hertz[a:b], a, b)
            first = round(a * FRAME * RATE)
            piece = piece[: samples - first]
            out[first : first + len(piece)] += piece
        out /= np.abs(out).max() + 1e-9
        return np.asarray(out + self._air(out) + self._breaths(samples))

    def _synthesise(self, hertz: Floats, a: int, b: int) -> Floats:
        """The frames [a, b) as sound at 48 kHz."""
        world: Any = require("pyworld")
        size = 2 * (2 * self.spectrum.shape[1] - 2)
        smooth = gaussian_filter1d(self.spectrum[a:b], 1.2, axis=0)
        power = np.exp(self._body(smooth, self.effort[a:b], size)).astype(np.float64)
        noise = world.decode_aperiodicity(self.aperiodicity[a:b].astype(np.float64), self.rate, size)
        voice = world.synthesize(hertz, power, np.clip(noise, 1e-3, 1.0), self.rate, FRAME * 1000)
        gain = gaussian_filter1d(self.gain[a:b], 1.2)
        voice *= np.interp(np.arange(len(voice)) / (self.rate * FRAME), np.arange(b - a), gain)
        return np.asarray(resample_poly(voice, 320, 147))  # 22.05 kHz -> 48 kHz

    def _body(self, spectrum: NDArray[np.float32], effort: Floats, size: int) -> NDArray[np.float32]:
        """The singer's throat and the mouth's opening on log spectra: formants moved, brighter where sung louder."""
        singer = self.singer
        bins = size // 2 + 1
        hertz = np.arange(bins) * self.rate / size
        places = np.clip(np.arange(bins) / singer.formants / 2, 0, spectrum.shape[1] - 1.001)
        low = places.astype(int)
        part = (places - low).astype(np.float32)
        warped = (1 - part) * spectrum[:, low] + part * spectrum[:, low + 1]
        octaves = np.log2(np.maximum(hertz, 1000.0) / 1000.0)
        shape = singer.tilt * octaves + singer.presence * np.exp(-(((hertz - 3000) / 900) ** 2))
        shape += singer.air / (1 + np.exp(-(hertz - 4800) / 500)) + 3 * np.exp(-(((hertz - 4700) / 700) ** 2))
        shape -= 12 / (1 + np.exp(-(hertz - 10_000) / 250))  # no edge where the analysis ends
        bright = (2.5 * (effort - 0.6))[:, None] * octaves[None, :]
        return np.asarray(warped + DB * (shape[None, :] + bright), dtype=np.float32)

    def _melody(self) -> Floats:
        """Semitones per frame: portamento, late vibrato, slow drift, fast jitter."""
        known = np.flatnonzero(~np.isnan(self.melody))
        line = np.interp(np.arange(self.frames), known, self.melody[known])
        line = gaussian_filter1d(line, self.singer.glide / FRAME)
        rate = self.singer.vibrato_rate + 0.35 * gaussian_filter1d(self.rng.normal(size=self.frames), 60) * 11
        depth = np.zeros(self.frames)
        for sung in self.sung:
            tone = sung.tones[-1]
            a, b = self.frame(tone.start), min(self.frame(tone.start + tone.length), self.frames)
            ramp = np.clip((np.arange(b - a) * FRAME - self.singer.vibrato_onset) / 0.3, 0, 1)
            depth[a:b] = ramp * self.singer.vibrato_depth * float(self.rng.uniform(0.6, 1.3))
        wave = np.sin(2 * np.pi * np.cumsum(rate) * FRAME)
        vibrato = gaussian_filter1d(depth, 5) * wave
        self.gain *= 1 + TREMOR * vibrato / max(self.singer.vibrato_depth, 0.1)
        drift = 0.05 * gaussian_filter1d(self.rng.normal(size=self.frames), 30) * 10
        jitter = self.singer.jitter * gaussian_filter1d(self.rng.normal(size=self.frames), 2.0) * 2.7
        return np.asarray(line + vibrato + drift + jitter)

    def _air(self, voice: Floats) -> Floats:
        """Noise from 9.5 to 17 kHz that follows the voice's own top octave: WORLD at 22 kHz ends at 11 kHz."""
        top = sosfilt(butter(2, [6000, 10000], "bandpass", fs=RATE, output="sos"), voice)
        power = uniform_filter1d(top**2, 480)
        level = np.sqrt(np.maximum(power, 0.0))  # its running sum can end just below zero
        return np.asarray(0.5 * level * _noise(self.rng, len(voice), (9500.0, 17000.0)))

    def _breaths(self, samples: int) -> Floats:
        noise = _noise(self.rng, samples, (900.0, 6500.0))
        shape = np.interp(np.arange(samples) / (RATE * FRAME), np.arange(self.frames), self.breath)
        return np.asarray(BREATH_LEVEL * shape * noise)


def _noise(rng: np.random.Generator, samples: int, band: tuple[float, float]) -> NDArray[np.float32]:
    """Band noise of unit RMS: two seconds, repeated, which nobody hears under a moving level."""
    loop = sosfilt(butter(2, band, "bandpass", fs=RATE, output="sos"), rng.normal(size=2 * RATE + 4800))[4800:]
    return np.resize((loop / loop.std()).astype(np.float32), samples)


def _stretches(active: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Runs of frames that sound, [start, end), joined over rests shorter than `BRIDGE`."""
    frames = np.flatnonzero(active)
    if not len(frames):
        return []
    cuts = np.flatnonzero(np.diff(frames) > BRIDGE)
    starts, ends = np.concatenate([[0], cuts + 1]), np.concatenate([cuts, [len(frames) - 1]])
    return [(int(frames[a]), int(frames[b]) + 1) for a, b in zip(starts, ends, strict=True)]


def _held(start: float, end: float, length: int, rng: np.random.Generator) -> Floats:
    """Source frames of a vowel that lasts `length`: attack and release as spoken, the middle held and wandering."""
    natural = end - start
    if length <= 0:
        return np.zeros(0)
    if length <= natural:
        return np.linspace(start, end, length, endpoint=False)
    attack, release = min(0.35 * natural, 0.3 * length), min(0.4 * natural, 0.3 * length)
    middle = max(0, length - int(attack) - int(release))
    inner = np.linspace(start + attack, end - release, middle, endpoint=False)
    wander = gaussian_filter1d(rng.normal(size=middle), 10.0, mode="nearest") * 2.5 if middle else np.zeros(0)
    hold = np.clip(inner + wander * np.hanning(max(middle, 1)), start, end)
    return np.concatenate([
        np.linspace(start, start + attack, int(attack), endpoint=False), hold,
        np.linspace(end - release, end, length - middle - int(attack), endpoint=False),
    ])  # fmt: skip

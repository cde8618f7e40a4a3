"""Singing: syllables on notes -> frames of pitch and spectrum -> a voice.

Conventions: frames of 5 ms; melody in MIDI semitones until it is turned into Hz at the end; consonants sound before
the beat, so that the vowel starts on it. Output 48 kHz mono float64.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, uniform_filter1d
from scipy.signal import butter, resample_poly, sosfilt

from pipeline.songs.extra import require
from pipeline.songs.score import RATE, Score, Sung, stream
from pipeline.songs.voice import FRAME, Analysed, Singer, syllables, vocabulary

Floats = NDArray[np.float64]
ONSET_LIMIT = 24.0  # frames: consonants before a vowel last at most 0.12 s
CODA_LIMIT = 22.0  # frames
FLOOR = 1e-16  # power
BREATH_LEVEL = 0.008  # RMS of a breath at its loudest, the voice peaks at 1; ours, by eye on spectrograms


def singer_for(seed: int, singers: tuple[Singer, ...]) -> Singer:
    """The singer of a song."""
    return singers[int(stream(seed, "singer").integers(len(singers)))]


def sing(score: Score, singer: Singer, samples: int) -> NDArray[np.float64]:
    """The dry voice, [samples] at 48 kHz; silent where nobody sings."""
    words = vocabulary(singer.voice)
    words.learn({word.text for word in score.words})
    take = _Take(score, singer, int(np.ceil(samples / RATE / FRAME)) + 2)
    for index, sung in enumerate(score.sung):
        take.place(index, sung, words[score.words[sung.word].text])
    return take.render(samples)


class _Take:
    """Frames of a whole song, filled syllable by syllable."""

    def __init__(self, score: Score, singer: Singer, frames: int) -> None:
        self.score, self.singer, self.frames = score, singer, frames
        self.rng = stream(score.seed, "voice")
        self.melody = np.full(frames, np.nan)
        self.voiced = np.zeros(frames, dtype=bool)
        self.gain = np.zeros(frames)
        self.breath = np.zeros(frames)
        self.busy_until = 0
        self.spectrum: Floats | None = None
        self.aperiodicity: Floats | None = None
        self.rate = 0

    def frame(self, beats: float) -> int:
        return round(self.score.seconds(beats) / FRAME)

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
        self._write(frames[inside], np.clip(source[inside], 0, len(word.pitch) - 1.001), word, (beat, stop - tail))
        self._tune(sung, frames[inside], beat)
        self.gain[frames[inside]] = self._loudness(len(source), sung)[inside]
        if sung.opens:
            self._breathe(beat - lead, sung.effort)
        self.busy_until = stop

    def _next_onset(self, index: int) -> int:
        """The frame where the next syllable's consonants need room: a little before its beat."""
        if index + 1 >= len(self.score.sung):
            return self.frames
        following = self.score.sung[index + 1]
        return self.frame(following.start) - (12 if not following.opens else 0)

    def _write(self, frames: NDArray[np.int64], source: Floats, word: Analysed, vowel: tuple[int, int]) -> None:
        if self.spectrum is None or self.aperiodicity is None:
            bins = word.spectrum.shape[1]
            self.spectrum, self.aperiodicity = np.full((self.frames, bins), FLOOR), np.ones((self.frames, bins))
            self.rate = word.rate
        low = source.astype(int)
        part = (source - low)[:, None]
        log = np.log(word.spectrum + FLOOR)
        self.spectrum[frames] = np.exp((1 - part) * log[low] + part * log[low + 1])
        self.aperiodicity[frames] = (1 - part) * word.aperiodicity[low] + part * word.aperiodicity[low + 1]
        held = (frames >= vowel[0]) & (frames < vowel[1])
        self.voiced[frames] = (word.pitch[np.rint(source).astype(int)] > 0) | held
        self.aperiodicity[frames[held]] = np.minimum(self.aperiodicity[frames[held]], 0.6)

    def _tune(self, sung: Sung, frames: NDArray[np.int64], beat: int) -> None:
        for number, tone in enumerate(sung.tones):
            begin = frames[0] if number == 0 else self.frame(tone.start)
            end = min(self.frame(tone.start + tone.length), self.frames)
            self.melody[begin : max(end, frames[-1] + 1 if number == len(sung.tones) - 1 else end)] = tone.pitch
        if sung.opens and self.rng.random() < 0.5:
            scoop = self.melody[beat : beat + 24]
            scoop -= 1.2 * np.linspace(1, 0, len(scoop))

    def _loudness(self, length: int, sung: Sung) -> Floats:
        envelope = np.ones(length)
        attack, release = min(8, length // 3), min(16, length // 3)
        envelope[:attack] = np.linspace(0.35, 1, attack)
        envelope[length - release :] *= np.linspace(1, 0.3, release)
        swell = 1 + 0.15 * np.sin(np.pi * np.linspace(0, 1, length))
        height = (sung.tones[0].pitch - self.singer.low) / (self.singer.high - self.singer.low)
        return np.asarray(envelope * swell * (0.55 + 0.35 * sung.effort + 0.2 * height))

    def _breathe(self, before: int, effort: float) -> None:
        """An audible breath in the 0.3 s before a line, where there is room."""
        length = min(56, before - self.busy_until - 4)
        if length > 24:
            shape = np.sin(np.pi * np.linspace(0, 1, length)) ** 2
            self.breath[before - length - 2 : before - 2] = shape * (0.5 + 0.5 * effort)

    def render(self, samples: int) -> Floats:
        """Frames -> samples through WORLD's synthesis, plus air above its band and breaths."""
        out = np.zeros(samples)
        if self.spectrum is None or self.aperiodicity is None:
            return out
        world: Any = require("pyworld")
        hertz = np.where(self.voiced, 440 * 2 ** ((self._melody() - 69) / 12), 0.0)
        smooth = gaussian_filter1d(self.spectrum, 1.0, axis=0)
        voice = world.synthesize(hertz, smooth, np.clip(self.aperiodicity, 1e-3, 1.0), self.rate, FRAME * 1000)
        places = np.arange(len(voice)) / (self.rate * FRAME)
        voice *= np.interp(places, np.arange(self.frames), gaussian_filter1d(self.gain, 1.2))
        wide = resample_poly(voice, 320, 147)  # 22.05 kHz -> 48 kHz
        wide = np.pad(wide, (0, max(0, samples - len(wide))))[:samples]
        wide /= np.abs(wide).max() + 1e-9
        return np.asarray(wide + self._air(wide) + self._breaths(samples))

    def _melody(self) -> Floats:
        """Semitones per frame: portamento, late vibrato, slow drift."""
        known = np.flatnonzero(~np.isnan(self.melody))
        line = np.interp(np.arange(self.frames), known, self.melody[known])
        line = gaussian_filter1d(line, 4.5)
        time = np.arange(self.frames) * FRAME
        rate = self.singer.vibrato + 0.35 * gaussian_filter1d(self.rng.normal(size=self.frames), 60) * 11
        depth = np.zeros(self.frames)
        for sung in self.score.sung:
            tone = sung.tones[-1]
            a, b = self.frame(tone.start), min(self.frame(tone.start + tone.length), self.frames)
            ramp = np.clip((np.arange(b - a) * FRAME - 0.22) / 0.3, 0, 1)
            depth[a:b] = ramp * float(self.rng.uniform(0.18, 0.42))
        vibrato = gaussian_filter1d(depth, 5) * np.sin(2 * np.pi * np.cumsum(rate) * FRAME + time[0])
        drift = 0.05 * gaussian_filter1d(self.rng.normal(size=self.frames), 30) * 10
        return np.asarray(line + vibrato + drift)

    def _air(self, voice: Floats) -> Floats:
        """Noise from 9.5 to 17 kHz that follows the voice's own top octave: WORLD at 22 kHz ends at 11 kHz."""
        top = sosfilt(butter(4, [6000, 10000], "bandpass", fs=RATE, output="sos"), voice)
        power = uniform_filter1d(top**2, 480)
        level = np.sqrt(np.maximum(power, 0.0))  # its running sum can end just below zero
        noise = sosfilt(butter(2, [9500, 17000], "bandpass", fs=RATE, output="sos"), self.rng.normal(size=len(voice)))
        return np.asarray(0.5 * level * noise / (noise.std() + 1e-9))

    def _breaths(self, samples: int) -> Floats:
        noise = sosfilt(butter(2, [900, 6500], "bandpass", fs=RATE, output="sos"), self.rng.normal(size=samples))
        shape = np.interp(np.arange(samples) / (RATE * FRAME), np.arange(self.frames), self.breath)
        return np.asarray(BREATH_LEVEL * shape * noise / noise.std())


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

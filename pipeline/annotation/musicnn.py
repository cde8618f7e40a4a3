"""Annotation: what musicnn's two taggers and our head of words hear -> one sentence of style, instruments and mood.

The head (`pipeline.encoders.words`) knows the renderer's styles and families of instruments, the taggers a hundred tags
of real music; the head speaks where it is sure, then the taggers where they are. Nobody sure, nothing said: a sentence
may lack its style, its instruments or its mood.

Conventions: a tag's probability is its mean over the song's windows, the higher of the two taggers' where both know it.
Words about voices, tempo and decades never enter the sentence. No lyrics are heard.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import numpy as np

from pipeline.annotation.sentence import compose, pick
from pipeline.annotation.stage import Annotation, AnnotationConfig
from pipeline.annotation.text import clean_text
from pipeline.encoders.listener import Heard, Listener
from pipeline.encoders.words import LICENCE, Words
from pipeline.types import Audio

Likely = Sequence[tuple[str, float]]
"""Words with their probabilities, likeliest first."""

# tag of the taggers -> the word in the sentence
STYLES: Mapping[str, str] = {
    name: name
    for name in (
        "classical", "techno", "electronic", "rock", "ambient", "indian", "pop", "new age", "dance", "country", "metal",
        "alternative rock", "jazz", "classic rock", "soul", "indie rock", "folk", "punk", "blues", "hard rock",
        "acoustic", "experimental", "funk", "electro", "heavy metal", "indie pop", "easy listening",
    )
} | {
    "classic": "classical", "alternative": "alternative", "indie": "indie", "electronica": "electronic",
    "Hip-Hop": "hip hop", "Progressive rock": "progressive rock", "rnb": "R&B", "House": "house",
}  # fmt: skip
INSTRUMENTS: Mapping[str, str] = {
    "guitar": "guitar", "strings": "strings", "drums": "drums", "beat": "drums", "beats": "drums", "piano": "piano",
    "violin": "violin", "synth": "synthesizer", "harpsichord": "harpsichord", "flute": "flute", "sitar": "sitar",
    "harp": "harp", "cello": "cello",
}  # fmt: skip
MOODS: Mapping[str, str] = {
    "loud": "powerful", "quiet": "quiet", "soft": "soft", "weird": "strange", "beautiful": "beautiful",
    "chillout": "relaxed", "chill": "relaxed", "Mellow": "mellow", "party": "festive", "sexy": "sensual",
    "catchy": "catchy", "sad": "sad", "happy": "happy",
}  # fmt: skip
# word of the head -> the word in the sentence, where it is another
HEAD_WORDS: Mapping[str, str] = {"bossa": "bossa nova", "synth lead": "synthesizer", "synth pad": "synthesizer pads"}


class TagAnnotator:
    """The embedded backend. `BackendUnavailable` where musicnn's package or the head's weights are missing."""

    name, backend = "annotation", "musicnn"

    def __init__(self, config: AnnotationConfig) -> None:
        self.config = config
        self._listener, self._words = Listener(), Words()
        self.licence = f"{self._listener.licence} (musicnn), {LICENCE} (words)"
        hashes = self._listener.weights_sha256 + self._words.weights_sha256
        self.weights_sha256 = hashlib.sha256(hashes.encode()).hexdigest()

    def __call__(self, audio: Audio, given_text: str = "") -> Annotation:
        """One or two captions: what cleaning leaves of the given text, then the sentence of what is heard."""
        annotation = self.describe(self._listener(audio))
        given = clean_text(given_text)
        return Annotation((given, *annotation.captions), annotation.tags, lyrics="") if given else annotation

    def describe(self, heard: Heard) -> Annotation:
        """The annotation of what the taggers heard: one caption."""
        c, tags = self.config, self._tags(heard)
        styles, instruments = self._head(heard)
        sentence = compose(
            pick(chain(styles, _known(tags, STYLES, c.threshold)), c.max_styles),
            pick(chain(instruments, _known(tags, INSTRUMENTS, c.threshold)), c.max_instruments),
            pick(_known(tags, MOODS, c.threshold), c.max_moods),
        )
        words = {**{tag: p for tag, p in tags.items() if p >= c.threshold}, **dict(styles), **dict(instruments)}
        return Annotation((sentence,), tuple(sorted(words, key=lambda word: (-words[word], word))), lyrics="")

    def _head(self, heard: Heard) -> tuple[Likely, Likely]:
        """Styles and instruments that the head is sure of, likeliest first."""
        guess, head, c = self._words(heard), self._words.head, self.config
        styles = zip(head.styles, guess.styles.tolist(), strict=True)
        instruments = zip(head.instruments, guess.instruments.tolist(), strict=True)
        return _sure(styles, c.style_threshold), _sure(instruments, c.instrument_threshold)

    def _tags(self, heard: Heard) -> dict[str, float]:
        tags: dict[str, float] = {}
        for label, probability in zip(self._listener.labels, np.mean(heard.tags, axis=0).tolist(), strict=True):
            tags[label] = max(tags.get(label, 0.0), probability)
        return tags


def _sure(words: Iterable[tuple[str, float]], threshold: float) -> Likely:
    found = [(HEAD_WORDS.get(word, word), p) for word, p in words if p >= threshold]
    return sorted(found, key=lambda item: (-item[1], item[0]))


def _known(tags: Mapping[str, float], words: Mapping[str, str], threshold: float) -> Likely:
    """What the taggers' tags of one group say, from the threshold on."""
    return _sure(((words[tag], tags[tag]) for tag in words if tag in tags), threshold)


def build(config: AnnotationConfig) -> TagAnnotator:
    return TagAnnotator(config)

"""Annotation with musicnn: tags of two taggers -> one sentence of style, instruments and mood.

Conventions: a tag's probability is its mean over the song's windows, the higher of the two taggers' where both know it.
Tags about voices, tempo and decades never enter the sentence. No lyrics are heard.
"""

import hashlib
from collections.abc import Mapping, Sequence

from pipeline.annotation.stage import Annotation, AnnotationConfig
from pipeline.annotation.text import clean_text
from pipeline.encoders.musicnn import MusiCNN
from pipeline.types import Audio

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


class TagAnnotator:
    """The embedded backend."""

    name, backend = "annotation", "musicnn"

    def __init__(self, config: AnnotationConfig) -> None:
        self.config = config
        self._taggers = (MusiCNN("MTT_musicnn"), MusiCNN("MSD_musicnn"))
        self.licence = MusiCNN.licence
        self.weights_sha256 = hashlib.sha256("".join(t.weights_sha256 for t in self._taggers).encode()).hexdigest()

    def __call__(self, audio: Audio, given_text: str = "") -> Annotation:
        """One or two captions: what cleaning leaves of the given text, then the sentence of the tags."""
        tags = self._tags(audio)
        given, sentence = clean_text(given_text), self._sentence(tags)
        captions = (given, sentence) if given else (sentence,)
        heard = sorted(tags, key=lambda tag: (-tags[tag], tag))
        return Annotation(captions, tuple(tag for tag in heard if tags[tag] >= self.config.threshold), lyrics="")

    def _tags(self, audio: Audio) -> dict[str, float]:
        tags: dict[str, float] = {}
        for tagger in self._taggers:
            for label, probability in zip(tagger.labels, tagger(audio).tags.mean(axis=0), strict=True):
                tags[label] = max(tags.get(label, 0.0), float(probability))
        return tags

    def _sentence(self, tags: Mapping[str, float]) -> str:
        c = self.config
        styles = pick(tags, STYLES, c.max_styles, c.threshold)
        instruments = pick(tags, INSTRUMENTS, c.max_instruments, c.threshold)
        moods = pick(tags, MOODS, c.max_moods, c.threshold)
        return f"{_noun(styles, 'track')} with {_list(instruments)}, in {_noun(moods, 'mood').lower()}."


def pick(tags: Mapping[str, float], words: Mapping[str, str], count: int, threshold: float) -> tuple[str, ...]:
    """Up to `count` different words of one group whose tags reach the threshold, likeliest first; always the first."""
    ranked = sorted((tag for tag in words if tag in tags), key=lambda tag: (-tags[tag], tag))
    likely = [words[tag] for i, tag in enumerate(ranked) if i == 0 or tags[tag] >= threshold]
    return tuple(dict.fromkeys(likely))[:count]


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _noun(words: Sequence[str], noun: str) -> str:
    article = "An" if words[0][0].lower() in "aeiou" or words[0] == "R&B" else "A"
    return f"{article} {_list(words)} {noun}"


def build(config: AnnotationConfig) -> TagAnnotator:
    return TagAnnotator(config)

"""Annotation by Qwen2-Audio: excerpts of a song are asked about, and the answers are merged into one sentence.

Conventions: excerpts are mono at the model's rate, all of one length, evenly spread; answers are greedy, so the same
song gives the same words. A word counts once an excerpt; those that more excerpts name come first. An answer that
keeps to no line is a caption in its own words. Source: Qwen2-Audio technical report (Chu et al., 2024); the published
chat template.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

from pipeline.annotation.sentence import compose, pick
from pipeline.annotation.stage import CAPTIONS_AT_ONCE, Annotation, AnnotationConfig
from pipeline.annotation.text import clean_text
from pipeline.assets.store import combined, held
from pipeline.audio import resample
from pipeline.batching import in_batches
from pipeline.encoders.published import DTYPES, load_network, load_processor
from pipeline.types import Audio

ASSET = "qwen2-audio"
KINDS = {"style": "style", "genre": "style", "instrument": "instruments", "mood": "mood", "emotion": "mood"}
_LINE = re.compile(r"^\W*(style|genre|instrument|mood|emotion)\w*\W*?[:\-]\s*(.+)$", re.IGNORECASE | re.MULTILINE)
_BETWEEN = re.compile(r"\s*(?:[,;/]|\band\b)\s*", re.IGNORECASE)
Words = dict[str, list[str]]
"""Kind (style, instruments, mood) -> words, in the order of the answer."""


def build(config: AnnotationConfig) -> "QwenAnnotator":
    return QwenAnnotator(config)


class QwenAnnotator:
    """`BackendUnavailable` where its weights are not on this machine or do not fit."""

    name, backend = "annotation", "qwen2_audio"

    def __init__(self, config: AnnotationConfig) -> None:
        self.config = config
        weights = held(ASSET)
        self.weights_sha256, self.licence = combined((weights,))
        self._processor = load_processor(AutoProcessor, weights)
        self._network = load_network(
            Qwen2AudioForConditionalGeneration, weights, config.caption.precision, config.device
        )
        # On a CPU a batch gains nothing.
        self.at_once = max(1, int(CAPTIONS_AT_ONCE / config.caption.excerpt_seconds)) if config.device == "cuda" else 1
        self._rate = int(self._processor.feature_extractor.sampling_rate)
        turn = [
            {"type": "audio", "audio_url": "excerpt"},
            {"type": "text", "text": config.caption.prompt},
        ]
        self._prompt = self._processor.apply_chat_template(
            [{"role": "user", "content": turn}], add_generation_prompt=True, tokenize=False
        )

    def __call__(self, audio: Audio, given_text: str = "") -> Annotation:
        """The given text, then one sentence of all excerpts (or what they said in their own words)."""
        return self.batch([(audio, given_text)])[0]

    def batch(self, songs: Sequence[tuple[Audio, str]]) -> list[Annotation]:
        """The same of several songs, whose excerpts fill the batches together."""
        c = self.config.caption
        cut = [excerpts(resample(audio.mono(), self._rate), c.excerpts, c.excerpt_seconds) for audio, _ in songs]
        answers = iter(self._asked([piece for pieces in cut for piece in pieces]))
        return [
            self._merged([next(answers) for _ in pieces], text) for pieces, (_, text) in zip(cut, songs, strict=True)
        ]

    def _merged(self, answers: Sequence[str], given_text: str) -> Annotation:
        found, given = merge(answers, self.config), clean_text(given_text)
        return Annotation((given, *found.captions), found.tags, lyrics="") if given else found

    def _asked(self, pieces: Sequence[NDArray[np.float32]]) -> list[str]:
        """An answer to each piece; those of one length go together, in whole batches."""
        answers: dict[int, str] = {}
        for length in dict.fromkeys(map(len, pieces)):
            places = [place for place, piece in enumerate(pieces) if len(piece) == length]
            alike = [pieces[place] for place in places]
            told = in_batches(alike, self.at_once, self._answers, "Qwen2-Audio", filled=True)
            answers |= zip(places, told, strict=True)
        return [answers[place] for place in range(len(pieces))]

    @torch.inference_mode()
    def _answers(self, pieces: Sequence[NDArray[np.float32]]) -> list[str]:
        """What the model says of each piece. Equal lengths: nothing is padded, so no piece changes another's answer."""
        asked = self._processor(
            text=[self._prompt] * len(pieces), audio=list(pieces), sampling_rate=self._rate, return_tensors="pt",
            padding=True,
        ).to(self._network.device)  # fmt: skip
        asked["input_features"] = asked["input_features"].to(DTYPES[self.config.caption.precision])
        said = self._network.generate(**asked, max_new_tokens=self.config.caption.max_tokens, do_sample=False)
        answers: list[str] = self._processor.batch_decode(
            said[:, asked["input_ids"].shape[1] :], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return answers


def excerpts(audio: Audio, count: int, seconds: float) -> list[NDArray[np.float32]]:
    """Up to `count` pieces of that length, evenly spread over mono audio; one of the whole where it is shorter."""
    samples, length = audio.samples[0], round(seconds * audio.sample_rate)
    if audio.length <= length:
        return [samples]
    fit = min(count, audio.length // length)  # no second of a short song is heard twice
    room = audio.length - length
    starts = [round(room * (2 * i + 1) / (2 * fit)) if fit > 1 else room // 2 for i in range(fit)]
    return [samples[start : start + length] for start in starts]


def parse(answer: str) -> Words:
    """The lines of one answer that keep to the form, their words cleaned; empty where none does."""
    words: Words = {}
    for kind, text in _LINE.findall(answer):
        listed = (clean_text(word.strip(" .'\"").lower()) for word in _BETWEEN.split(text))
        words.setdefault(KINDS[kind.lower()], []).extend(word for word in listed if word)
    return words


def merge(answers: Sequence[str], config: AnnotationConfig) -> Annotation:
    """One sentence of what most excerpts name; of answers in other forms, each cleaned one is a caption."""
    parsed = [words for words in map(parse, answers) if words]
    if not parsed:
        free = tuple(dict.fromkeys(text for text in (clean_text(" ".join(a.split())) for a in answers) if text))
        return Annotation(free or (compose((), (), ()),), tags=(), lyrics="")
    styles, instruments, moods = (_voted(w.get(kind, []) for w in parsed) for kind in ("style", "instruments", "mood"))
    sentence = compose(
        pick(styles, config.max_styles), pick(instruments, config.max_instruments), pick(moods, config.max_moods)
    )
    tags = dict.fromkeys(word for word, _ in sorted((*styles, *instruments, *moods), key=lambda item: -item[1]))
    return Annotation((sentence,), tuple(tags), lyrics="")


def _voted(lists: Iterable[Sequence[str]]) -> list[tuple[str, float]]:
    """Words with the number of excerpts that name them, most first; equals in the order of their first naming."""
    votes = Counter(word for words in lists for word in dict.fromkeys(words))
    return [(word, float(count)) for word, count in votes.most_common()]

"""Captions by Qwen2-Audio and lyrics by Qwen3-ASR and Whisper: tiny random models in the published files."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_published import install_tiny

from pipeline.annotation.lyrics import Recogniser, quietest, windows
from pipeline.annotation.qwen2_audio import QwenAnnotator, excerpts, merge, parse
from pipeline.annotation.stage import AnnotationConfig, LyricsConfig, build
from pipeline.assets.store import asset, held
from pipeline.errors import BackendUnavailable
from pipeline.types import Audio

CAPTION = {"precision": "float32", "max_tokens": 6}
QWEN = AnnotationConfig.model_validate({"backend": "qwen2_audio", "caption": CAPTION})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("BACKLINE_ASSETS", str(folder))
        for name in ("qwen2-audio", "qwen3-asr", "whisper"):
            install_tiny(name, tmp_path_factory.mktemp(name))
    return folder


@pytest.fixture(autouse=True)
def use(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKLINE_ASSETS", str(store))


def music(seconds: float, rate: int = 16_000) -> Audio:
    noise = np.random.default_rng(3).standard_normal((2, int(seconds * rate)))
    return Audio((0.1 * noise).astype(np.float32), rate)


def test_qwen_describes_a_song_and_says_whose_weights_it_has() -> None:
    annotator = build(QWEN)
    first = annotator(music(65), "A slow rock song with a female singer, 80 BPM")
    assert first.captions[0] == "A slow rock song"
    assert len(first.captions) >= 2
    assert (annotator.backend, annotator.licence) == ("qwen2_audio", "Apache-2.0")
    assert annotator.weights_sha256 == held("qwen2-audio").weights_sha256
    assert annotator(music(65)).captions == first.captions[1:]


def test_an_answer_does_not_depend_on_the_batch() -> None:
    annotator = QwenAnnotator(QWEN)
    pieces = excerpts(Audio(music(95).samples[:1], 16_000), 3, 30.0)
    together = annotator._answers(pieces)
    assert together == [annotator._answers([piece])[0] for piece in pieces]
    assert len(set(together)) > 1 or len(set(map(bytes, pieces))) == 3


def test_the_prompt_reaches_the_model_with_the_audio() -> None:
    annotator = QwenAnnotator(QWEN)
    assert QWEN.caption.prompt in annotator._prompt
    assert annotator._prompt.count("<|AUDIO|>") == 1
    assert annotator._prompt.endswith("<|im_start|>assistant\n")
    silence, noise = np.zeros(480_000, np.float32), music(30).samples[0]
    asked = [
        annotator._processor(text=[annotator._prompt], audio=[x], sampling_rate=16_000, return_tensors="pt")
        for x in (silence, noise)
    ]
    assert not torch.equal(asked[0]["input_features"], asked[1]["input_features"])
    assert (asked[0]["input_ids"] == annotator._network.config.audio_token_id).sum() == 750  # 25 a second


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [(10.0, [0]), (30.0, [0]), (31.0, [0.5]), (59.0, [14.5]), (60.0, [7.5, 22.5]), (120.0, [15, 45, 75])],
)
def test_excerpts_are_spread_evenly_and_never_heard_twice(seconds: float, starts: list[float]) -> None:
    ramp = np.arange(int(seconds * 100), dtype=np.float32)[None]
    pieces = excerpts(Audio(ramp, 100), 3, 30.0)
    assert [piece[0] / 100 for piece in pieces] == starts
    assert all(len(piece) == min(3000, ramp.shape[1]) for piece in pieces)


def test_answers_are_voted_on_and_cleaned() -> None:
    answers = [
        "Style: rock, pop.\nInstruments: guitar, drums, female vocals\nMood: sad",
        "**Style**: Rock and blues\nInstruments: drums, bass guitar\nMood: dark, sad",
        "Genre: rock\nInstruments: piano; drums\nMood: calm at 120 BPM",
    ]
    assert parse(answers[0]) == {"style": ["rock", "pop"], "instruments": ["guitar", "drums"], "mood": ["sad"]}
    found = merge(answers, QWEN)
    assert found.captions == (
        "A rock and pop track with drums, guitar, bass guitar and piano, in a sad and dark mood.",
    )
    assert found.tags[:3] == ("rock", "drums", "sad")


def test_an_answer_of_another_form_is_a_caption_of_its_own() -> None:
    said = ["A  quiet folk song with a woman singing.", "A quiet folk song with a woman singing.", "Warm guitars."]
    assert merge(said, QWEN).captions == ("A quiet folk song.", "Warm guitars.")
    assert merge(["The singer sings."], QWEN).captions == ("A track.",)


@pytest.fixture(params=["whisper", "qwen3_asr"])
def recogniser(request: pytest.FixtureRequest) -> Recogniser:
    return opinionated(request.param)


def opinionated(backend: str) -> Recogniser:
    config = {"backend": backend, "precision": "float32", "max_tokens": 5}
    made = Recogniser(LyricsConfig.model_validate(config), "cpu")
    for weights in made._network.requires_grad_(False).parameters():
        weights.mul_(8.0)  # as they were drawn, it says the same of every sound
    return made


def test_lyrics_are_the_same_whoever_is_with_the_song(recogniser: Recogniser) -> None:
    """Windows of several songs fill batches of one shape, as on a GPU; on a CPU each song has its own."""
    songs = [music(seconds) for seconds in (4.0, 0.5, 2.53, 31.0, 0.02)]
    songs = [Audio(song.samples * (number + 1), 16_000) for number, song in enumerate(songs)]
    on_cpu = recogniser.batch(songs)
    assert on_cpu == [recogniser(song) for song in songs]
    recogniser.shared = True
    shapes: set[tuple[int, ...]] = set()
    recogniser._network.register_forward_pre_hook(
        lambda module, args, asked: shapes.add(asked["attention_mask"].shape) if "attention_mask" in asked else None,
        with_kwargs=True,
    )
    alone = [recogniser(song) for song in songs]
    assert len(set(alone)) > 2
    for order in (range(5), (3, 0, 4, 2, 1), (2, 1)):
        assert recogniser.batch([songs[place] for place in order]) == [alone[place] for place in order]
    assert {shape[0] for shape in shapes} == {8}
    assert alone == on_cpu


def test_a_windows_states_are_those_that_it_has_alone() -> None:
    """In a batch, transformers' port of Qwen3-ASR has a shorter window's end hear its padding."""
    recogniser = opinionated("qwen3_asr")
    pieces = [music(seconds).samples[0] for seconds in (4.0, 0.5, 2.53)]

    @torch.inference_mode()
    def states(asked: Any) -> torch.Tensor:
        heard = recogniser._network.get_audio_features(asked["input_features"], asked["input_features_mask"])
        answer: torch.Tensor = heard.pooler_output
        return answer

    with torch.inference_mode():
        ready = recogniser._ready(pieces)
    assert {one["inputs_embeds"].shape for one in ready} == {(1, recogniser._longest, 16)}
    assert [int(one["attention_mask"].sum()) for one in ready] == [
        recogniser._asked([piece])["input_ids"].shape[1] for piece in pieces
    ]
    own = [states(recogniser._asked([piece])) for piece in pieces]
    for prompt, heard in zip(ready, own, strict=True):
        rows = [row for row in prompt["inputs_embeds"][0] if any(torch.equal(row, state) for state in heard)]
        assert torch.equal(torch.stack(rows), heard)
    together = states(recogniser._asked(pieces))
    assert float((together - torch.cat(own)).abs().max() / together.abs().max()) > 0.01


def test_lyrics_stand_beside_the_captions() -> None:
    lyrics = {"backend": "whisper", "precision": "float32", "max_tokens": 3}
    annotator = build(AnnotationConfig.model_validate({"backend": "qwen2_audio", "caption": CAPTION, "lyrics": lyrics}))
    assert annotator.backend == "qwen2_audio+whisper"
    assert annotator.licence == "Apache-2.0; lyrics MIT"
    assert annotator.weights_sha256 not in (held("qwen2-audio").weights_sha256, held("whisper").weights_sha256)


def test_windows_are_cut_where_it_is_quiet_and_make_up_the_whole() -> None:
    sound = np.ones(16_000 * 70, np.float32)
    sound[16_000 * 27 : 16_000 * 27 + 3200] = 0  # 0.2 s of silence within the last 5 s of the first 30
    pieces = windows(sound, 16_000 * 30, 16_000 * 5)
    np.testing.assert_array_equal(np.concatenate(pieces), sound)
    assert all(len(piece) <= 16_000 * 30 for piece in pieces)
    assert 27.0 < len(pieces[0]) / 16_000 < 27.2
    assert [len(piece) for piece in windows(sound[:100], 480_000, 80_000)] == [100]
    assert quietest(np.ones(100, np.float32)) == 100


def test_weights_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """transformers would fill a missing tensor with random numbers, and print a page about another shape."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path / "store"))
    install_tiny("whisper", tmp_path / "made")
    path = held("whisper").path("model.safetensors")
    misshapen = r"1 of another shape: model\.encoder\.layer_norm\.bias \[3\] \(not \[\d+\]\)$"
    for change, told in ((None, r"1 missing: .*layer_norm\.bias"), (torch.zeros(3), misshapen)):
        tensors = load_file(tmp_path / "made" / "model.safetensors")
        key = "model.encoder.layer_norm.bias"
        tensors = {k: v for k, v in tensors.items() if k != key} | ({} if change is None else {key: change})
        save_file(tensors, tmp_path / "made" / "other.safetensors", metadata={"format": "pt"})
        path.unlink()
        (tmp_path / "made" / "other.safetensors").rename(tmp_path / "made" / "changed.safetensors")
        _reinstall(tmp_path / "made")
        with pytest.raises(BackendUnavailable, match=told):
            Recogniser(LyricsConfig(backend="whisper", precision="float32"), "cpu")
    assert "REPORT" not in caplog.text


def _reinstall(folder: Path) -> None:
    from pipeline.assets.pull import install

    whole = (folder / "model.safetensors").read_bytes()
    (folder / "changed.safetensors").replace(folder / "model.safetensors")
    install("whisper", folder, check=False)
    (folder / "model.safetensors").write_bytes(whole)


def test_no_weights_no_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path))
    with pytest.raises(
        BackendUnavailable, match=r"Qwen2-Audio 7B Instruct .* not on this machine; backline assets pull"
    ):
        build(QWEN)
    assert asset("qwen2-audio").commercial

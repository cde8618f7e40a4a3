"""Training: codebook, corpus, the whole run on noise, and that a stopped run ends as an unbroken one."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.audio import decode, write
from pipeline.codec import codebook as books
from pipeline.codec import train as training
from pipeline.codec.codec import CodecConfig, build
from pipeline.codec.corpus import CorpusConfig, read
from pipeline.codec.decoder import TEXTURE, enlivened
from pipeline.codec.embedded import load
from pipeline.codec.evaluate import (
    FIGURES,
    code_use,
    compare,
    evaluate,
    evaluate_clips,
    evaluate_vocoder,
    intervals,
    summary,
)
from pipeline.codec.mel import FLOOR
from pipeline.codec.train import CodecTrainingConfig, losses_of, train
from pipeline.types import Audio

SMALL = CodecTrainingConfig(
    seed=3,
    corpus=CorpusConfig(voice_copies=1, music_copies=0),
    codebook_size=256,
    codebook_points=1000,
    codebook_passes=1,
    decoder_steps=4,
    batch_size=2,
    crop_codes=8,
    checkpoint_every=2,
    licence="CC0-1.0",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for name in ("vocal-a.wav", "band-a.wav", "band-b.wav"):
        level = np.repeat(rng.uniform(0, 0.2, 120), 2400)
        write(folder / name, Audio((rng.standard_normal((1, 288_000)) * level).astype(np.float32), 48_000))
    (folder / "notes.wav").write_bytes(b"not audio")
    return sorted(folder.iterdir())


def test_nearest_is_the_nearest() -> None:
    generator = torch.Generator().manual_seed(0)
    points, centres = torch.randn((1000, 8), generator=generator), torch.randn((50, 8), generator=generator)
    index, error = books.nearest(points, centres)
    distance = torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.equal(index, distance.argmin(dim=1))
    assert torch.allclose(error, distance.min(dim=1).values.square(), atol=1e-4)


def test_the_nearest_few_come_nearest_first() -> None:
    generator = torch.Generator().manual_seed(0)
    points, centres = torch.randn((300, 8), generator=generator), torch.randn((50, 8), generator=generator)
    order = torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist").argsort(dim=1)
    assert torch.equal(books.nearest_few(points, centres, 3), order[:, :3])
    assert books.nearest_few(points, centres, 99).shape == (300, 50)


def test_the_narrowed_search_finds_nearly_every_nearest_centre() -> None:
    generator = torch.Generator().manual_seed(0)
    points, centres = torch.randn((4000, 8), generator=generator), torch.randn((8000, 8), generator=generator)
    exact, exact_error = books.nearest(points, centres)
    index, error = books.nearest_among_neighbours(points, centres, generator)
    assert float((index == exact).float().mean()) > 0.9
    assert float(error.mean()) == pytest.approx(float(exact_error.mean()), rel=0.02)
    assert torch.allclose(error, (points - centres[index]).square().sum(dim=1), atol=1e-3)


def test_k_means_never_gets_worse_and_fills_every_centre() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn((2000, 4), generator=generator)
    centres = torch.cat([points[:20], torch.full((5, 4), 100.0)])
    errors = []
    for _ in range(6):
        centres, error = books.k_means_step(points, centres, generator)
        errors.append(error)
    assert errors == sorted(errors, reverse=True)
    assert len(torch.unique(books.nearest(points, centres)[0])) == 25


def test_components_are_orthonormal_and_ordered() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn((3000, 160), generator=generator) * torch.linspace(5, 0.1, 160) + 3
    mean, components = books.principal_components(rows)
    assert torch.allclose(mean, rows.mean(dim=0))
    assert torch.allclose(components.T @ components, torch.eye(128), atol=1e-4)
    spread = ((rows - mean) @ components).var(dim=0)
    assert bool((spread.diff() <= 1e-3).all())


def test_both_halves_of_the_feature_weigh_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    log_mels = torch.rand((4000, 100), generator=generator) * 8 - 4.6
    variance = books.features(log_mels, books.equalising_amplitude(log_mels)).var(dim=0)
    assert float(variance[:400].sum()) == pytest.approx(float(variance[400:800].sum()), rel=1e-3)


def test_sharpening_is_blind_to_level_and_sees_harmonics() -> None:
    fine = books.fine_structure()
    assert torch.allclose(torch.full((1, 100), 3.0) @ fine, torch.zeros(1, 100), atol=1e-5)
    slope = torch.linspace(0, 5, 100)[None] @ fine
    assert float(slope[:, 3:-3].abs().max()) < 1e-5
    comb = (torch.arange(100) % 4 == 0).float()[None]
    assert float((comb @ fine)[0, 20]) > 0.6
    plain, sharp = (books.features(comb.expand(4, 100), 1.0, sharpness) for sharpness in (0.0, 2.0))
    assert float(sharp[0, 20]) > 2 * float(plain[0, 20])
    assert torch.equal(plain[:, 60:100], sharp[:, 60:100])  # above 3 kHz nothing changes
    assert torch.equal(plain[:, 400:], sharp[:, 400:])


def test_corpus_reads_voices_and_music_and_names_what_it_skips(files: list[Path], tmp_path: Path) -> None:
    corpus = read(files, SMALL.corpus, seed=0, progress=lambda phase, done: None, cache=tmp_path)
    assert [clip.voice for clip in corpus.clips] == [False, False, True, True]
    assert corpus.seconds == pytest.approx(18.0)
    assert len(corpus.skipped) == 1
    assert "notes.wav" in corpus.skipped[0]
    plain, shifted = (len(clip.log_mel) for clip in corpus.clips[2:])
    semitones = 12 * np.log2(plain / shifted)
    assert 0.01 < abs(semitones) <= 4.5
    again = read(files, SMALL.corpus, seed=0, progress=lambda phase, done: None, cache=tmp_path)
    assert all(
        torch.equal(*pair) for pair in zip(*[[c.log_mel for c in x.clips] for x in (corpus, again)], strict=True)
    )
    assert again.seconds == corpus.seconds


def test_draws_repeat_and_keep_the_share_of_voices(files: list[Path], tmp_path: Path) -> None:
    corpus = read(files, SMALL.corpus, seed=0, progress=lambda phase, done: None, cache=tmp_path)
    first, second = (corpus.draw(10, 32, 0.3, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (10, 32, 100)
    voices = torch.cat([clip.log_mel for clip in corpus.clips if clip.voice]).float()
    held = [bool((voices == crop[0]).all(dim=1).any()) for crop in first]
    assert held == [True] * 3 + [False] * 7


def test_liveliness_raises_change_and_keeps_what_stands_still() -> None:
    still = torch.rand((1, 100)).expand(30, 100)
    assert torch.allclose(enlivened(still)[:, :31], still[:, :31], atol=1e-5)
    moving = torch.rand((300, 100), generator=torch.Generator().manual_seed(0))
    ratio = enlivened(moving)[:, :31].diff(dim=0).abs().mean() / moving[:, :31].diff(dim=0).abs().mean()
    assert 1.15 < float(ratio) < 1.35
    assert float(enlivened(moving).mean()) == pytest.approx(float(moving.mean()), abs=0.01)


def test_texture_is_laid_over_high_sounds_alone_and_repeats() -> None:
    still = torch.full((3000, 100), 1.0)
    laid = enlivened(still) - still
    assert torch.equal(enlivened(still), enlivened(still))
    assert not laid[:, :30].any()
    assert float(laid[:, 60:].std()) == pytest.approx(TEXTURE, rel=0.01)
    assert float(laid[:, 45].std()) == pytest.approx(TEXTURE / 2, rel=0.1)
    silence = torch.full((30, 100), math.log(FLOOR))
    assert torch.allclose(enlivened(silence), silence, atol=1e-5)


def test_losses_vanish_for_the_truth_and_l1_is_an_offset() -> None:
    truth = torch.rand((2, 16, 100))
    assert float(losses_of(truth, truth)[0]) == 0
    loss, l1 = losses_of(truth + 0.25, truth)
    assert float(l1) == pytest.approx(0.25, abs=1e-6)
    assert float(loss) > 0.25


def test_a_stopped_run_ends_as_an_unbroken_one(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, float]] = []
    whole = train(files, tmp_path / "whole.safetensors", SMALL, lambda phase, done: seen.append((phase, done)))
    assert [phase for phase, done in seen if done == 1] == ["reading", "codebook", "decoder"]
    assert (whole.clips, whole.voice_clips, len(whole.decoder_l1)) == (4, 2, 4)

    class StoppedError(Exception):
        pass

    def stop(phase: str, done: float) -> None:
        if (phase, done) == ("decoder", 0.75):
            raise StoppedError

    halved = tmp_path / "halved.safetensors"
    with pytest.raises(StoppedError):
        train(files, halved, SMALL, stop)
    monkeypatch.setattr(training, "_k_means", lambda *_: pytest.fail("the codebook was made again"))
    assert train(files, halved, SMALL).weights_sha256 == whole.weights_sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["halved.safetensors", "whole.safetensors"]
    assert load(halved).spec.licence == "CC0-1.0"


def test_too_little_audio_is_an_error(files: list[Path], tmp_path: Path) -> None:
    few = SMALL.model_copy(update={"codebook_points": 100})
    with pytest.raises(ValueError, match="can't fill 256"):
        train(files, tmp_path / "x.safetensors", few)


def tone(hertz: float, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """With harmonics: nobody sings a sine."""
    return np.asarray(0.1 * sum(np.sin(2 * np.pi * k * hertz * time) / k for k in range(1, 11)))


def test_figures_of_a_perfect_copy() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(48_000) / 24_000
    sung = tone(220, time) * (time % 0.5 < 0.4)
    wave = (sung + 1e-3 * rng.standard_normal(48_000)).astype(np.float32)
    figures = compare(wave, wave, voice=True)
    expected = {"log_mel_l1": 0.0, "chroma": 1.0, "onset_f1": 1.0, "in_tune": 1.0, "flux": 1.0, "level_db": 0.0}
    assert figures == pytest.approx(expected, abs=1e-5)


def test_figures_tell_a_wrong_note_and_a_lost_level() -> None:
    time = np.arange(48_000) / 24_000
    sung, wrong = (tone(hertz, time).astype(np.float32) for hertz in (220, 233.08))
    figures = compare(sung, 0.5 * wrong, voice=True)
    assert figures["in_tune"] < 0.1
    assert figures["level_db"] == pytest.approx(-6.02, abs=0.1)
    assert figures["chroma"] < 0.9


def test_code_use_is_counted_on_as_many_tokens_as_asked_for() -> None:
    uniform = np.repeat(np.arange(100, dtype=np.uint16), 50)
    assert code_use([uniform]) == (100, pytest.approx(100), 5000)
    codes, perplexity, tokens = code_use([uniform[:2500], uniform[2500:]], limit=1000)
    assert (codes, tokens) == (100, 1000)
    assert 80 < perplexity < 100
    assert code_use([uniform], limit=1000) == (codes, perplexity, tokens)


def test_evaluation_is_of_clips_and_of_whole_files(files: list[Path]) -> None:
    codec = build(CodecConfig())
    shown: list[tuple[int, int]] = []
    clips = evaluate_clips(codec, files, progress=lambda done, total: shown.append((done, total)))
    assert shown == [(1, 4), (2, 4), (3, 4), (4, 4)]
    scores = summary(clips)
    assert scores.tokens == 3 * 151
    assert 1 < scores.perplexity <= scores.codes <= scores.tokens
    assert (scores.clips, scores.voice_clips) == (3, 1)
    for name, (low, high) in intervals(clips).items():
        value = getattr(scores, name)
        assert low <= value <= high or (np.isnan(value) and np.isnan(low))
    ceiling = evaluate_vocoder([path for path in files if path.name != "notes.wav"])
    assert set(ceiling[0]) == set(FIGURES)
    assert np.mean([figures["log_mel_l1"] for figures in ceiling]) < scores.log_mel_l1
    with pytest.raises(ValueError, match="none of 1 files"):
        evaluate(codec, [path for path in files if path.name == "notes.wav"])


def test_evaluation_is_deaf_to_the_level_of_a_file(files: list[Path], tmp_path: Path) -> None:
    audio = decode(str(files[0]))
    write(tmp_path / "quiet.wav", Audio(audio.samples * np.float32(0.125), audio.sample_rate))
    codec = build(CodecConfig())
    loud, quiet = (evaluate(codec, [path]).log_mel_l1 for path in (files[0], tmp_path / "quiet.wav"))
    assert loud == pytest.approx(quiet, abs=0.01)

"""What a run leaves to be seen and heard: pictures of its journal, a voice played along with."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from synthetic_dataset import song

from model.audition import SECONDS, audition, span_of, voice_of
from model.config import ModelConfig, SamplerConfig, TrainRun
from model.curves import PICTURE, draw
from model.journal import METRICS
from model.network import MaskPredictor
from pipeline.codec import codec as codecs
from pipeline.records.schema import Sample

TINY = ModelConfig(layers=1, width=16, heads=2, kv_heads=1, head_dim=8, ffn=32, prefix_width=8)
PNG = b"\x89PNG\r\n\x1a\n"


def test_a_voice_is_played_to_and_the_same_step_sounds_the_same(tmp_path: Path) -> None:
    run = TrainRun(model=TINY, sampler=SamplerConfig(steps=2), codec=codecs.CodecConfig())
    torch.manual_seed(0)
    network = MaskPredictor(TINY, rtd=False).train()
    before = torch.get_rng_state()
    heard = [audition(network, [song("v", 120, split="val")], run, tmp_path / name, 7) for name in "ab"]
    assert torch.equal(torch.get_rng_state(), before)
    assert network.training
    assert sorted(path.name for path in heard[0].parent.iterdir()) == [
        "step-00000007.flac", "step-00000007.png", "truth.flac", "voice.flac",
    ]  # fmt: skip
    first, second = (soundfile.read(path)[0] for path in heard)
    assert len(first) == 120 * 1920
    assert np.array_equal(first, second)
    assert heard[0].with_suffix(".png").read_bytes()[:8] == PNG


def singing(key: str, tokens: int, *spans: tuple[float, float]) -> Sample:
    made = song(key, tokens, split="val")
    return replace(made, info=replace(made.info, vocal_active=spans))


@pytest.mark.parametrize(
    ("tokens", "spans", "begin"),
    [
        (2000, [(10.0, 12.0), (30.0, 40.0)], 250),
        (2000, [(75.0, 78.0)], 1500),  # the song's last 20 s
        (2000, [], 0),
        (100, [(1.0, 2.0)], 0),
    ],
)
def test_the_voice_is_taken_from_its_first_note_on(tokens: int, spans: list[tuple[float, float]], begin: int) -> None:
    assert span_of(singing("v", tokens, *spans)) == slice(begin, begin + round(25 * SECONDS))


def test_the_first_song_that_somebody_sings_is_played_to() -> None:
    silent, sung = singing("a", 100), singing("b", 100, (0.0, 1.0))
    assert voice_of([silent, sung]).info.key == "b"
    assert voice_of([silent]).info.key == "a"


def test_a_runs_picture_is_drawn_from_its_journal(tmp_path: Path) -> None:
    assert draw(tmp_path) is None
    lines = [
        {
            "step": n,
            "stage": f"stage{1 + n // 4}",
            "cml": 9.0 - n,
            "rtd": 0.6,
            "grad_norm": 1.0,
            "tokens_per_second": 5.0,
        }
        for n in range(8)
    ]
    (tmp_path / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert draw(tmp_path) == tmp_path / PICTURE
    assert (tmp_path / PICTURE).read_bytes()[:8] == PNG

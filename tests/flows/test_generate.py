"""Files of a generation: refused before any work, folders made, settings checked."""

from pathlib import Path

import pytest

from flows.generate import GenerateRequest, generate_file, settings
from model.config import SamplerConfig


def request(tmp_path: Path, **changes: object) -> GenerateRequest:
    given = {"checkpoint": tmp_path / "none", "vocal": tmp_path / "me.wav", "out": tmp_path / "deep" / "band.wav"}
    return GenerateRequest(**(given | changes))


@pytest.mark.parametrize("place", ["out", "mix"])
def test_a_file_that_can_not_be_written_is_refused_before_the_model_is_looked_for(tmp_path: Path, place: str) -> None:
    with pytest.raises(ValueError, match=r"band\.mp3.*use \.wav, \.flac, \.ogg"):
        generate_file(request(tmp_path, **{place: tmp_path / "band.mp3"}))


def test_the_folder_of_the_answer_is_made(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="none"):
        generate_file(request(tmp_path))
    assert (tmp_path / "deep").is_dir()


def test_request_changes_the_trained_sampler_and_nothing_else(tmp_path: Path) -> None:
    trained = SamplerConfig(top_k=7)
    asked = settings(trained, request(tmp_path, steps=5, schedule="linear", seed=3))
    assert (asked.steps, asked.schedule, asked.seed, asked.top_k) == (5, "linear", 3, 7)
    with pytest.raises(ValueError, match="schedule"):
        settings(trained, request(tmp_path, schedule="zigzag"))

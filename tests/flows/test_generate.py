"""Files of a generation: refused before any work, folders made, settings checked, takes named, sections kept."""

import json
from pathlib import Path

import pytest

from flows.generate import FREE, GenerateRequest, Section, fixed_codes, generate_files, jobs, settings
from model.config import SamplerConfig
from pipeline.errors import BadInput


def request(tmp_path: Path, **changes: object) -> GenerateRequest:
    given = {"checkpoint": tmp_path / "none", "vocals": (tmp_path / "me.wav",), "out": tmp_path / "deep" / "band.wav"}
    return GenerateRequest(**(given | changes))


@pytest.mark.parametrize("place", ["out", "mix"])
def test_a_file_that_can_not_be_written_is_refused_before_the_model_is_looked_for(tmp_path: Path, place: str) -> None:
    with pytest.raises(ValueError, match=r"band\.mp3.*use \.wav, \.flac, \.ogg"):
        generate_files(request(tmp_path, **{place: tmp_path / "band.mp3"}))


def test_the_folder_of_the_answer_is_made(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="none"):
        generate_files(request(tmp_path))
    assert (tmp_path / "deep").is_dir()


def test_request_changes_the_trained_sampler_and_nothing_else(tmp_path: Path) -> None:
    trained = SamplerConfig(top_k=7)
    asked = settings(trained, request(tmp_path, steps=5, schedule="linear"), 3)
    assert (asked.steps, asked.schedule, asked.seed, asked.top_k) == (5, "linear", 3, 7)
    with pytest.raises(ValueError, match="schedule"):
        settings(trained, request(tmp_path, schedule="zigzag"), 0)


def test_takes_and_vocals_are_written_into_a_folder_by_name_and_seed(tmp_path: Path) -> None:
    vocals = (tmp_path / "me.wav", tmp_path / "you.flac")
    planned = jobs(request(tmp_path, vocals=vocals, takes=2, seed=5, out=tmp_path / "out", mix=tmp_path / "mix"))
    assert [(job.out.name, job.seed) for job in planned] == [
        ("me-seed5.wav", 5), ("me-seed6.wav", 6), ("you-seed5.wav", 5), ("you-seed6.wav", 6),
    ]  # fmt: skip
    assert {job.mix.parent for job in planned} == {tmp_path / "mix"}
    assert [job.out for job in jobs(request(tmp_path))] == [tmp_path / "deep" / "band.wav"]


def test_two_vocals_can_not_share_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="need a folder, not a file"):
        jobs(request(tmp_path, takes=2))
    with pytest.raises(ValueError, match="several vocals are called me"):
        jobs(request(tmp_path, vocals=(tmp_path / "me.wav", tmp_path / "b" / "me.wav"), out=tmp_path / "out"))


def test_a_section_frees_its_codes_and_keeps_the_rest(tmp_path: Path) -> None:
    (tmp_path / "band.wav.json").write_text(json.dumps({"codes": list(range(100))}))
    fixed = fixed_codes(Section(tmp_path / "band.wav", 1.0, 2.0))
    assert [i for i, code in enumerate(fixed) if code == FREE] == list(range(25, 50))
    assert all(code == i for i, code in enumerate(fixed) if code != FREE)
    assert (fixed_codes(Section(tmp_path / "band.wav", 3.0)) == FREE).sum() == 25


def test_a_section_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"band\.wav\.json is missing"):
        fixed_codes(Section(tmp_path / "band.wav"))
    (tmp_path / "band.wav.json").write_text(json.dumps({"codes": [1] * 50}))
    with pytest.raises(BadInput, match=r"which has 2\.00 s"):
        fixed_codes(Section(tmp_path / "band.wav", 3.0, 4.0))

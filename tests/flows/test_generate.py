"""Files of a generation: refused before any work, folders made, settings checked, takes named, sections kept."""

import json
from pathlib import Path

import pytest

from flows.generate import FREE, fixed_codes, generate_files, jobs
from flows.generate_request import GenerateRequest, Section, check_options, sampler_of, settings
from model import checkpoint
from model.checkpoint import Progress
from model.config import Kind, SamplerConfig, TrainRun
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
    asked = settings(trained, request(tmp_path, steps=5, schedule="linear", seed=3))
    assert (asked.steps, asked.schedule, asked.seed, asked.top_k) == (5, "linear", 3, 7)
    with pytest.raises(ValueError, match="schedule"):
        settings(trained, request(tmp_path, schedule="zigzag"))


def test_any_setting_of_the_sampler_may_be_changed_and_nothing_else() -> None:
    run = TrainRun(sampler=SamplerConfig(top_k=7))
    found = sampler_of(
        run, ["sampler.guidance_text=2", "sampler.guidance_interval=[0.1, 0.6]", "sampler.long=windowed"]
    )
    assert (found.guidance_text, found.guidance_interval, found.long, found.top_k) == (2.0, (0.1, 0.6), "windowed", 7)
    with pytest.raises(ValueError, match=r"'model\.width=4' must look like sampler\.key=value"):
        sampler_of(run, ["model.width=4"])
    with pytest.raises(ValueError, match="guidance_txt"):
        sampler_of(run, ["sampler.guidance_txt=2"])
    causal = TrainRun.model_validate({"model": {"kind": "autoregressive"}, "training": {"objective": NOTHING}})
    with pytest.raises(ValueError, match=r"autoregressive plays songs whole: set sampler\.long to whole"):
        sampler_of(causal, ["sampler.long=windowed"])


def test_a_schedule_that_an_entropy_bound_would_pass_over_is_refused(tmp_path: Path) -> None:
    bounded = SamplerConfig(entropy_bound=0.5)
    assert settings(bounded, request(tmp_path, steps=9)).steps == 9
    with pytest.raises(ValueError, match=r"--schedule linear: .*entropy_bound 0\.5 .*sampler\.entropy_bound=0"):
        settings(bounded, request(tmp_path, schedule="linear"))


NOTHING = {"mask_schedule": [1.0], "corruption": "bernoulli", "label_smoothing": 0.0, "rtd": {"weight": 0.0}}
KEEP = Section(Path("band.wav"))


@pytest.mark.parametrize(
    ("kind", "given", "refused"),
    [
        ("autoregressive", {"steps": 5, "schedule": "linear"}, ["--steps", "--schedule"]),
        ("autoregressive", {"section": KEEP}, []),
        ("flow", {"steps": 5}, []),
        ("flow", {"schedule": "linear", "section": KEEP}, ["--schedule", "--keep"]),
        ("mask", {"steps": 5, "schedule": "linear", "section": KEEP}, []),
    ],
)
def test_options_that_a_kind_of_model_would_pass_over_are_refused_by_name(
    tmp_path: Path, kind: Kind, given: dict[str, object], refused: list[str]
) -> None:
    asked = request(tmp_path, **given)
    if not refused:
        check_options(asked, kind)
        return
    with pytest.raises(ValueError, match=f"of kind {kind}") as caught:
        check_options(asked, kind)
    named = [name for name in ("--steps", "--schedule", "--keep") if f"{name}: " in str(caught.value)]
    assert named == refused
    assert "leave it out" in str(caught.value)


def test_they_are_refused_before_the_weights_are_read(tmp_path: Path) -> None:
    run = TrainRun.model_validate({"model": {"kind": "autoregressive"}, "training": {"objective": NOTHING}})
    checkpoint.save(tmp_path / "none", {}, run, Progress(), None)
    with pytest.raises(ValueError, match="--steps: it draws every code once"):
        generate_files(request(tmp_path, steps=5))


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
    for broken in ('{"codes": [1, 2', '{"seed": 1}', '{"codes": ["a"]}'):
        (tmp_path / "band.wav.json").write_text(broken)
        with pytest.raises(BadInput, match=r"is no trace .*generate band\.wav again"):
            fixed_codes(Section(tmp_path / "band.wav"))
    (tmp_path / "band.wav.json").write_text(json.dumps({"codes": [1] * 50}))
    with pytest.raises(BadInput, match=r"which has 2\.00 s"):
        fixed_codes(Section(tmp_path / "band.wav", 3.0, 4.0))

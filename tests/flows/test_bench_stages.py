"""The runner of the stages' benches, its output, and the command around it."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import flows.bench
from flows.bench.codec import Heard, cost, groups_of, listen, mean, rows, together
from flows.bench.material import Material
from flows.bench.pictures import BANDS, draw_pair, spectrogram
from flows.bench.show import bar, codec_json, codec_table, number, standing, table_of
from flows.bench.stages import STAGES, chosen, measures, run, to_json
from flows.bench.table import Row
from flows.cli.main import commands
from pipeline.audio import write
from pipeline.codec.codec import CodecConfig, CodecSpec, Codes, build, token_count
from pipeline.codec.evaluate import ClipScores
from pipeline.errors import BackendUnavailable
from pipeline.types import Audio

FAKE = """
from flows.bench.table import Row

def measure(material, progress):
    progress(1, 1)
    return [Row("fake", "right", 0.9, 0.8, 1.0, len(material.songs), 0.5, "guess", 2.0, must=0.95)]

def ablation(material, progress):
    return [Row("fake", "without x", 0.7, float("nan"), float("nan"), 1, 0.5, "guess", 2.0)]
"""


def row(**changes: object) -> Row:
    fields = {"stage": "fake", "measure": "right", "value": 0.9, "low": 0.8, "high": 1.0, "n": 3, "baseline": 0.5}
    told = fields | {"baseline_name": "guess", "seconds_per_minute": 2.0} | changes
    return Row(**told)  # type: ignore[arg-type]


def shown(table: object) -> str:
    console = Console(width=200, record=True)
    console.print(table)
    return console.export_text()


@pytest.fixture
def fake_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "fake_stage.py").write_text(FAKE)
    monkeypatch.setattr(flows.bench, "__path__", [*flows.bench.__path__, str(tmp_path)])
    return "fake_stage"


def test_stages_are_chosen_by_name_in_the_builds_order() -> None:
    assert chosen(["quality", "detection"]) == ("detection", "quality")
    assert chosen([]) == STAGES
    with pytest.raises(ValueError, match="no bench for guitar; there are detection, quality"):
        chosen(["quality", "guitar"])


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_bench(stage: str) -> None:
    assert all(map(callable, measures(stage, ablation=True)))


def test_a_stage_without_a_bench_is_told_before_anything_runs(fake_stage: str) -> None:
    with pytest.raises(BackendUnavailable, match="'nothing' has no bench here"):
        next(run([fake_stage, "nothing"], Material(), lambda stage, done, total: None))


def test_a_run_yields_each_stage_and_reports_progress(fake_stage: str) -> None:
    seen: list[tuple[str, int, int]] = []
    found = list(run([fake_stage], Material(songs=(Path("a"),)), lambda *told: seen.append(told)))
    assert [[row.measure for row in rows] for rows in found] == [["right"]]
    assert found[0][0].n == 1
    assert seen == [("fake_stage", 1, 1)]


def test_the_ablation_runs_where_it_is_asked_for(fake_stage: str) -> None:
    assert len(measures(fake_stage)) == 1
    (found,) = run([fake_stage], Material(), lambda *told: None, ablation=True)
    assert [row.measure for row in found] == ["right", "without x"]


def test_a_json_line_has_no_nan_and_says_whether_it_passes() -> None:
    told = json.loads(to_json(row(low=math.nan, must=(0.75, 1.1), aim=0.95)))
    assert told["low"] is None
    assert (told["must"], told["passes"], told["reaches_aim"]) == ([0.75, 1.1], True, False)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"must": 0.95}, "FAIL"),
        ({"must": 0.9, "aim": 0.95}, "pass"),
        ({"must": 0.8, "aim": 0.9}, "aim"),
        ({"must": 0.95, "aim": 0.85}, "FAIL"),
    ],
)
def test_how_a_row_stands(changes: dict[str, object], says: str) -> None:
    assert standing(row(**changes)) == says


def test_the_table_says_what_is_demanded() -> None:
    text = shown(table_of([row(must=0.95), row(measure="error", value=0.4, must=0.5, better="lower")]))
    assert "≥ 0.950" in text
    assert "≤ 0.500" in text
    assert "0.800 to 1" in text
    assert "0.500 guess" in text
    assert bar((0.75, 1.1), row()) == "0.750 to 1.1"
    assert [number(v) for v in (0.1234, 12.3456, 5012.4, math.nan)] == ["0.123", "12.35", "5012", ""]


class Exact:
    """A codec that keeps everything, for as long as it is not asked about another file."""

    spec = CodecSpec("exact", "", "", 0, 0, 1, 0)

    def __init__(self) -> None:
        self.last = Audio(np.zeros((1, 1), np.float32), 48_000)

    def encode(self, audio: Audio) -> Codes:
        self.last = audio
        return np.arange(token_count(audio.length), dtype=np.uint16)[None]

    def decode(self, codes: Codes) -> Audio:
        samples = np.zeros((1, len(codes) * 1920), np.float32)
        kept = min(samples.shape[1], self.last.length)
        samples[:, :kept] = self.last.samples[:1, :kept]
        return Audio(np.repeat(samples, 2, axis=0), 48_000)


def music(seed: int, seconds: float = 6.0) -> Audio:
    """A new note every 0.4 s."""
    rng, time = np.random.default_rng(seed), np.arange(round(0.4 * 48_000)) / 48_000
    notes = [
        np.exp(-5 * time) * np.sin(2 * np.pi * 110 * 2 ** (rng.integers(0, 36) / 12) * time)
        for _ in range(round(seconds / 0.4))
    ]
    return Audio((0.5 * np.concatenate(notes)).astype(np.float32)[None], 48_000)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    folder = tmp_path_factory.mktemp("clips")
    for seed in range(2):
        write(folder / f"m{seed}.wav", music(seed))
    return sorted(folder.glob("*.wav"))


@pytest.fixture(scope="module")
def heard(clips: Sequence[Path]) -> dict[str, Heard]:
    seen: list[tuple[int, int]] = []
    found = listen(Exact(), {"real music": clips, "real singers": ()}, lambda *told: seen.append(told))
    assert seen[-1] == (2, 2)
    return found


def test_an_exact_codec_stands_above_its_vocoder_and_far_above_another_clip(heard: dict[str, Heard]) -> None:
    group = heard["real music"]
    copy, top, floor = mean([clip.figures for clip in group.clips]), mean(group.ceiling), mean(group.naive)
    assert list(heard) == ["real music"]
    assert copy["log_mel_l1"] < 0.01
    assert copy["log_mel_l1"] < top["log_mel_l1"] < floor["log_mel_l1"]
    assert copy["chroma"] > 0.99
    assert copy["chroma"] > floor["chroma"]
    assert copy["onset_f1"] > 0.95
    assert math.isnan(copy["in_tune"])


def test_the_codecs_rows_carry_the_issues_limits(heard: dict[str, Heard]) -> None:
    told = {row.measure: row for row in rows(heard, 1.5)}
    assert told["log-mel L1, nats"].must == 0.56
    assert told["log-mel L1, nats"].better == "lower"
    assert told["log-mel L1, nats"].passes is True
    assert told["liveliness (flux ratio)"].must == (0.75, 1.1)
    assert told["chroma cosine"].baseline == pytest.approx(mean(heard["real music"].naive)["chroma"])
    assert "sung frames in tune, real singers" not in told
    assert told["codes used, 302 tokens"].value == 151


def test_the_codecs_json_has_the_agreed_keys(heard: dict[str, Heard]) -> None:
    told = json.loads(json.dumps(codec_json(heard), allow_nan=False))
    keys = {"log_mel_l1", "chroma", "onset_f1", "in_tune", "flux", "codes", "perplexity", "encode_x", "decode_x"}
    assert keys <= set(told)
    assert told["in_tune"] is None
    assert keys <= set(told["groups"]["real music"])
    assert told["ceiling"]["chroma"] > told["naive"]["chroma"]
    assert told["intervals"]["chroma"][0] <= told["chroma"] <= told["intervals"]["chroma"][1]


def test_the_codecs_table_shows_every_group(heard: dict[str, Heard]) -> None:
    text = shown(codec_table(heard | {"rendered bands": heard["real music"]}))
    assert all(name in text for name in ("real music", "rendered bands", "all", "perplexity", "true mel -> wave"))
    assert "in_tune" not in text


def test_all_groups_together_count_each_clip(heard: dict[str, Heard]) -> None:
    both = together({"a": heard["real music"], "b": heard["real music"]})
    assert len(both.clips) == len(both.ceiling) == len(both.naive) == 4
    assert isinstance(both.clips[0], ClipScores)


def test_rendered_voices_and_bands_come_from_the_first_songs() -> None:
    songs = tuple(Path(f"song-{n}") for n in range(30))
    groups = groups_of(Material(songs=songs, singers=(Path("a.wav"),)))
    assert groups["rendered voices"][0] == Path("song-0/vocal.flac")
    assert len(groups["rendered bands"]) == 10
    assert groups["real music"] == ()


def test_the_cost_of_the_codec_is_cpu_time(clips: Sequence[Path]) -> None:
    assert 0 < cost(build(CodecConfig()), clips[:1]) < 120


def test_two_small_pictures_of_one_scale(tmp_path: Path) -> None:
    time = np.arange(6 * 48_000) / 48_000
    tone = Audio((0.5 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)[None], 48_000)
    write(tmp_path / "tone.wav", tone)
    paths = list(draw_pair(Exact(), tmp_path / "tone.wav", tmp_path, "band"))
    assert [path.name for path in paths] == ["band-original.png", "band-codec.png"]
    assert all(path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size <= 150_000 for path in paths)
    loudest = spectrogram(tone, tone.length).mean(axis=1).argmax() / BANDS
    assert 0.25 < loudest < 0.5  # 1 kHz on a mel scale up to 12 kHz


@pytest.mark.parametrize("words", [["fetch"], ["render"], ["freeze"], ["stages"], ["pictures"]], ids=" ".join)
def test_help(words: list[str]) -> None:
    result = CliRunner().invoke(commands, ["bench", *words, "--help"])
    assert result.exit_code == 0, result.output
    assert "--root" in result.output


def test_the_command_measures_saves_and_judges(
    fake_stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.bench.stages.STAGES", (fake_stage,))
    monkeypatch.setattr("flows.cli.bench.material_of", lambda root, library, songs: Material())
    line = ["bench", "stages", "--only", fake_stage, "--save", str(tmp_path / "rows.jsonl")]
    result = CliRunner().invoke(commands, line)
    assert result.exit_code == 0, result.output
    assert "FAIL" in result.stdout
    assert CliRunner().invoke(commands, [*line, "--strict"]).exit_code == 1
    told = CliRunner().invoke(commands, [*line, "--json", "--ablation"]).stdout.splitlines()
    assert [json.loads(row)["measure"] for row in told] == ["right", "without x"]
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 1 + 1 + 2


def test_an_unknown_stage_is_told_before_the_material_is_looked_for() -> None:
    result = CliRunner().invoke(commands, ["bench", "stages", "--only", "guitar", "--root", "no/such/folder"])
    assert "no bench for guitar" in str(result.exception)


def test_a_folder_of_audio_is_measured_as_voices_and_music(tmp_path: Path) -> None:
    write(tmp_path / "b.wav", music(1))
    result = CliRunner().invoke(commands, ["codec", "evaluate", "--audio", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert list(told["groups"]) == ["music"]
    assert told["naive"]["chroma"] is None
    assert 0 < told["chroma"] <= 1

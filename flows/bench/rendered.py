"""The rendered half of the test set: made from its seeds, frozen once, checked at every use.

Conventions: the hash of a folder is taken over truth.json and the MD5 of the PCM samples that each FLAC file states in
its header, so that a check reads a few bytes a file; damage after the header shows when the file is decoded.
"""

import json
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from hashlib import sha256
from pathlib import Path

from flows.bench.material import Progress
from flows.bench.plan import FROZEN, Frozen, Job, Plan
from pipeline.errors import BadInput
from pipeline.songs.render import (
    RenderedSong,
    SecondsRange,
    folder_name,
    render_instrumental,
    render_song,
    render_speech,
)
from pipeline.songs.truth import RENDERER_VERSION, is_current

FOLDER = "rendered"
SHOWN = 5  # names in a message
MD5_OF_PCM = slice(26, 42)  # in a FLAC file: "fLaC", 4 bytes of block header, 18 of STREAMINFO, then the MD5


def render(root: Path, plan: Plan, progress: Progress, workers: int = 1, first: int = 0) -> dict[Job, Path]:
    """Every file of the plan, or the `first` of each group, below ``ROOT/rendered``; finished folders are kept."""
    out = root / FOLDER
    out.mkdir(parents=True, exist_ok=True)
    jobs = plan.jobs(first)
    found = {job: out / name_of(job) for job in jobs if RenderedSong(out / name_of(job)).finished(plan.seconds)}
    progress(len(found), len(jobs))
    for job, folder in _rendered([job for job in jobs if job not in found], out, plan.seconds, workers):
        found[job] = folder
        progress(len(found), len(jobs))
    return {job: found[job] for job in jobs}


def freeze(folders: Sequence[Path], path: Path = FROZEN) -> Frozen:
    """Write down the hash of every folder, once: `ValueError` where it was done before."""
    refuse_frozen(path)
    frozen = Frozen(RENDERER_VERSION, {folder.name: fingerprint(folder) for folder in folders})
    text = json.dumps({"renderer_version": frozen.renderer_version, "folders": frozen.folders}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    return frozen


def refuse_frozen(path: Path) -> None:
    """`ValueError` where a test set was frozen before."""
    if path.exists():
        raise ValueError(
            f"{path} is there: a test set is frozen once. To freeze a new one, for a new renderer, delete it in a "
            "commit of its own that says why; figures measured before can't be compared any more"
        )


def check(root: Path, plan: Plan, frozen: Frozen, first: int = 0) -> dict[Job, Path]:
    """The folder of every job, or of the `first` of each group.

    `BadInput` where one is missing or isn't what was frozen, `ValueError` where renderer or plan changed since.
    """
    if frozen.renderer_version != RENDERER_VERSION:
        raise ValueError(
            f"the test set was frozen with version {frozen.renderer_version} of the renderer, this is version "
            f"{RENDERER_VERSION}: its seeds give other songs now. Use the release that froze it, or freeze a new set "
            f"(delete {FROZEN.name} in a commit of its own, then backline bench freeze)"
        )
    if {name_of(job) for job in plan.jobs()} != set(frozen.folders):
        raise ValueError(f"test_set.yaml names other songs than {FROZEN.name} froze: put it back, or freeze a new set")
    folders = {job: root / FOLDER / name_of(job) for job in plan.jobs(first)}
    _refuse(root, "missing", [f.name for f in folders.values() if not is_current(f / "truth.json")])
    _refuse(root, "different", [f.name for f in folders.values() if fingerprint(f) != frozen.folders[f.name]])
    return folders


def fingerprint(folder: Path) -> str:
    """The hash of a rendered folder."""
    song, told = RenderedSong(folder), sha256()
    for path in (song.mix, song.vocal, song.accompaniment):
        with path.open("rb") as file:
            head = file.read(MD5_OF_PCM.stop)
        if head[:4] != b"fLaC" or len(head) < MD5_OF_PCM.stop or not any(head[MD5_OF_PCM]):
            raise BadInput(f"{path} states no MD5 of its samples: delete the folder, then backline bench render")
        told.update(head[MD5_OF_PCM])
    told.update(song.truth.read_bytes())
    return told.hexdigest()


def _refuse(root: Path, what: str, names: Sequence[str]) -> None:
    if not names:
        return
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    remedy = {
        "missing": f"run backline bench render --root {root}",
        "different": "the renderer changed without a new version, its libraries did, or this type of machine rounds "
        "otherwise: install from constraints.txt, delete these folders and run backline bench render again; for a "
        "look that is not comparable use --library",
    }
    raise BadInput(f"frozen songs {what} below {root / FOLDER}: {shown}: {remedy[what]}", what)


def _rendered(jobs: Sequence[Job], out: Path, seconds: SecondsRange, workers: int) -> Iterator[tuple[Job, Path]]:
    if workers <= 1:
        yield from ((job, render_job(job, out, seconds)) for job in jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        doing = {pool.submit(render_job, job, out, seconds): job for job in jobs}
        yield from ((doing[done], done.result()) for done in as_completed(doing))


def name_of(job: Job) -> str:
    """Of the folder of one rendered file."""
    return folder_name(job.kind, job.fault, job.seed)


def render_job(job: Job, out: Path, seconds: SecondsRange) -> Path:
    """The folder of one rendered file."""
    if job.kind == "song":
        return render_song(job.seed, out, seconds, job.fault).folder
    make = {"instrumental": render_instrumental, "speech": render_speech}[job.kind]
    return make(job.seed, out, seconds).folder


def by_group(folders: Mapping[Job, Path]) -> dict[tuple[str, str], tuple[Path, ...]]:
    """(kind, fault) -> folders, in the plan's order."""
    found: dict[tuple[str, str], list[Path]] = {}
    for job, folder in folders.items():
        found.setdefault((job.kind, job.fault), []).append(folder)
    return {key: tuple(paths) for key, paths in found.items()}

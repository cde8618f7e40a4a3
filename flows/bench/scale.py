"""What the machinery of a build costs: rehearsals of synthetic libraries, with a real Prefect server.

Conventions: a case is one library of `songs` tiny files, built by the command line as a user would, in processes of its
own; CPU seconds are those of the build's processes, its workers' too, and of the server. The work itself is nothing
(`flows.bench.noop`), so all of it is overhead. `again` is the same build with nothing left to do. A case that was cut
off goes on where it was, and its figures are the sums over all attempts.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.bench.server import Server, private_server
from flows.bench.tiny import write_library
from flows.recipe import load_recipe
from flows.stages.graph import NODES, stage_keys
from flows.tally import BACKEND, COLUMNS
from pipeline.errors import PipelineError
from pipeline.records import files
from pipeline.records.ledger import Ledger
from pipeline.records.scan import Scan

SETTINGS = ("rehearsal={}", "build.workers=1")
ONCE = 2  # task runs of a build as a whole: the catalogue, the groups of near-duplicates
ATTEMPTS = "attempts.jsonl"
LOOK_SECONDS = 0.2  # s between looks at a build and its server; ours
SECONDS = ("seconds", "client_cpu", "server_cpu", "server_idle")
Say = Callable[[str], None]


class RehearsalFailedError(PipelineError):
    """The build that was to be measured failed."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a build."""

    kind: str  # first, again
    ended: bool  # well
    seconds: float  # wall
    client_cpu: float  # s, with its workers
    server_cpu: float  # s, more than it takes when nobody asks anything
    server_idle: float  # s of CPU that it takes meanwhile anyway
    client_peak: int  # bytes, of the largest process
    server_peak: int  # bytes
    database_bytes: int  # that it added
    flow_runs: int
    task_runs: int
    events: int
    artifacts: int


@dataclass(frozen=True, slots=True)
class ScaleCase:
    """One library, built."""

    songs: int
    stages: int  # with the shards
    batches: int
    worked: int  # songs times stages that a row or a shard tells of
    seconds: float
    client_cpu: float  # s
    server_cpu: float  # s, beyond its idling
    server_idle: float  # s
    again_cpu: float  # s, client and server, with nothing left to do
    client_peak: int  # bytes
    server_peak: int  # bytes
    database_bytes: int
    flow_runs: int
    task_runs: int
    events: int
    ledger_bytes: int
    ledger_files: int
    scan_rows: int
    scan_seconds: float  # CPU, to read every row of the stage with the most

    @property
    def cpu(self) -> float:
        return self.client_cpu + self.server_cpu

    @property
    def ms_per_song_stage(self) -> float:
        """CPU milliseconds, client and server, per song of the library and stage of the build."""
        return 1e3 * self.cpu / (self.songs * self.stages)

    @property
    def tasks_per_stage_batch(self) -> float:
        """Task runs over stages times batches; those of the whole build are not counted."""
        return (self.task_runs - ONCE) / (self.stages * self.batches)


def measure(folder: Path, songs: int, stages: Sequence[str] = (), say: Say = lambda text: None) -> ScaleCase:
    """Build `songs` tiny songs in a folder of their own below `folder`, twice; what was built before is not again."""
    case = folder / f"songs-{songs}"
    say(f"{songs} songs: library")
    library = write_library(case / "library", songs)
    kinds = [kind for kind in ("first", "again") if not any(a.kind == kind and a.ended for a in attempts(case))]
    if kinds:
        with private_server(case / "prefect") as server:
            idle_rate = server.idle_rate()
            for kind in kinds:
                say(f"{songs} songs: {kind} build")
                run_build(case, library, stages, server, kind, idle_rate)
    return summarize(case, songs, stages)


def run_build(case: Path, library: Path, stages: Sequence[str], server: Server, kind: str, idle_rate: float) -> None:
    """One build in a process of its own; its attempt is noted. `RehearsalFailedError` with the end of its log."""
    words = [sys.executable, "-m", "flows.cli", "build", "--library", str(library), "--root", str(case / "root")]
    words += [word for setting in SETTINGS for word in ("--set", setting)]
    words += ["--stages", ",".join(stages)] if stages else []
    before, begun, log = server.use(), time.monotonic(), case / "build.log"
    with log.open("ab") as file:
        process = subprocess.Popen(words, env=server.environment, stdout=file, stderr=file)
        used = wait_for(process, server)
    seconds = time.monotonic() - begun
    after, idle = server.use(), idle_rate * (time.monotonic() - begun)
    added = {name: after.rows[name] - before.rows[name] for name in after.rows}
    told = Attempt(
        kind=kind,
        ended=process.returncode == 0,
        seconds=seconds,
        client_cpu=used.ru_utime + used.ru_stime,
        server_cpu=after.cpu_seconds - before.cpu_seconds - idle,
        server_idle=idle,
        client_peak=used.ru_maxrss * 1024,
        server_peak=after.peak_bytes,
        database_bytes=after.database_bytes - before.database_bytes,
        flow_runs=added["flow_run"],
        task_runs=added["task_run"],
        events=added["events"],
        artifacts=added["artifact"],
    )
    with (case / ATTEMPTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(told)) + "\n")
    if not told.ended:
        tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        if not server.alive:
            tail += f"\nits Prefect server had died; the end of {server.log}:\n{server.log.read_text('utf-8')[-2000:]}"
        raise RehearsalFailedError(f"the build ended with {process.returncode}; run the bench again to go on:\n{tail}")


def wait_for(process: "subprocess.Popen[bytes]", server: Server) -> resource.struct_rusage:
    """What a build used, once it has ended; one whose server has died is ended: it would ask for it for hours."""
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return used
        if not server.alive:
            process.kill()
        time.sleep(LOOK_SECONDS)


def attempts(case: Path) -> list[Attempt]:
    """All attempts at a case, those that failed too."""
    path = case / ATTEMPTS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Attempt(**json.loads(line)) for line in lines]


def summarize(case: Path, songs: int, stages: Sequence[str]) -> ScaleCase:
    """The figures of a case that is built."""
    first = [attempt for attempt in attempts(case) if attempt.kind == "first"]
    again = [attempt for attempt in attempts(case) if attempt.kind == "again" and attempt.ended]
    recipe = load_recipe("demo", SETTINGS)
    ledger, keys = Ledger(case / "root"), stage_keys(recipe)
    parts = [e for e in files.tree(case / "root" / "stages") if e.name.endswith(".parquet")]
    sums = {
        name: sum(getattr(attempt, name) for attempt in first)
        for name in (
            "seconds",
            "client_cpu",
            "server_cpu",
            "server_idle",
            "database_bytes",
            "flow_runs",
            "task_runs",
            "events",
        )
    }
    rows, scan = scan_seconds(ledger, next(iter(NODES)), keys)
    return ScaleCase(
        songs=songs,
        stages=len(stages) or len(NODES) + 1,
        batches=-(-songs // recipe.library.batch_size),
        worked=sum(ledger_rows(ledger, stage, key) for stage, key in keys.items()),
        again_cpu=again[-1].client_cpu + again[-1].server_cpu,
        client_peak=max(attempt.client_peak for attempt in first),
        server_peak=max(attempt.server_peak for attempt in first),
        ledger_bytes=sum(entry.bytes for entry in parts),
        ledger_files=len(parts),
        scan_rows=rows,
        scan_seconds=scan,
        **sums,
    )


def scan_seconds(ledger: Ledger, stage: str, keys: Mapping[str, str]) -> tuple[int, float]:
    """(rows, CPU seconds) of reading what statistics need of every row of a stage, once."""
    begun = time.process_time()
    table = Scan(ledger, stage, keys[stage], (*COLUMNS, *BACKEND)).table()
    return table.num_rows, time.process_time() - begun


def ledger_rows(ledger: Ledger, stage: str, key: str) -> int:
    """Songs that a stage has a row of."""
    return len(set(Scan(ledger, stage, key, ["track_id"]).table()["track_id"].to_pylist()))

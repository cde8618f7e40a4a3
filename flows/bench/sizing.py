"""What a build of a whole library takes: hours of machines, gigabytes and money, from stated inputs.

Conventions: every input says where it comes from. *measured* inputs name the command; *derived* ones give their
arithmetic (no accelerator was at hand to measure on); *assumed* ones are choices and prices, to be replaced by one's
own. Figures are upper ends: every song passes every stage, nothing is rejected.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Basis = Literal["measured", "derived", "assumed"]
A100_FP32 = 19.5e12  # FLOP/s; NVIDIA's data sheet
A100_BF16 = 312e12
UTILISED = 0.3  # of a peak that inference of such models reaches; assumed
VARIANTS = 5  # of an accompaniment: itself and 4 with another frequency balance (recipe `paper`)
COPIED = 0.1  # of the songs get a stretched or transposed copy: 20 % of those in stage 2, here half of all


@dataclass(frozen=True, slots=True)
class CpuStage:
    """An embedded stage."""

    name: str
    seconds_per_minute: float  # of one core for a minute of audio
    source: str


@dataclass(frozen=True, slots=True)
class GpuStage:
    """A stage with the paper's model."""

    name: str
    flop: float  # for a second of audio
    peak: float  # FLOP/s of the A100 in the precision that the official code uses
    source: str

    @property
    def times_real_time(self) -> float:
        return self.peak * UTILISED / self.flop


@dataclass(frozen=True, slots=True)
class Amount:
    """So much of something for a song or an hour of audio."""

    name: str
    value: float
    basis: Basis
    source: str


MUQ, MERT, QWEN = 333e6, 95e6, 8.2e9  # parameters
STAGES = "`backline bench stages`, 2026-11-22"
ENCODES = 1 + VARIANTS  # a voice and the accompaniments
CPU_STAGES = (
    CpuStage("detection", 0.51, STAGES),
    CpuStage("quality", 0.173, STAGES),
    CpuStage("separation", 6.17, STAGES),
    CpuStage("artifacts", 0.758, STAGES),
    CpuStage("structure", 0.57, STAGES),
    CpuStage("annotation", 3.24, STAGES),
    CpuStage("codec", 2.29 * ENCODES, f"{STAGES}: 2.29 to encode and decode, so at most; {ENCODES} streams"),
    CpuStage("conditioning", 2.42 * VARIANTS, f"{STAGES}: 2.42; {VARIANTS} variants"),
)
GPU_STAGES = (
    GpuStage("quality: SongEval", 2 * MUQ * 25, A100_FP32, "MuQ-large, 25 frames a second, fp32"),
    GpuStage("separation: BSRNN", 60e9, A100_FP32, "assumed 60 GFLOP; measure your checkpoint"),
    GpuStage("structure: SongFormer", 4 * MUQ * 25, A100_FP32, "MuQ-large and MusicFM, taken as large, fp32"),
    GpuStage("annotation: Qwen2-Audio", 2 * QWEN * 878 * 3 / 240, A100_BF16,
             "3 excerpts of 30 s in a song of 4 minutes, 750 + 128 tokens each, bf16, batched"),
    GpuStage("codec: MuCodec", 2 * MUQ * 25 * ENCODES, A100_FP32, f"MuQ-large, {ENCODES} streams, fp32"),
    GpuStage("conditioning: CLaMP3", 2 * MERT * 75 * VARIANTS, A100_BF16,
             f"MERT-95M, 75 frames a second, {VARIANTS} variants, bf16"),
)  # fmt: skip
PRICES = (
    Amount("a core for an hour, $", 0.04, "assumed", "on-demand list prices of large clouds, about, 2026-11"),
    Amount("an A100 for an hour, $", 2.0, "assumed", "the same"),
    Amount("a GB of object storage for a month, $", 0.023, "assumed", "the same"),
)
CORE_HOUR, GPU_HOUR, GB_MONTH = (price.value for price in PRICES)
SHARD_KB = Amount(
    "shards, kB a song of 4 minutes", 170.6, "measured", "`backline bench dataplane`: 10.9 MB for 64 songs"
)
LEDGER_KB = Amount("ledger, kB a song", 1.05, "measured", "`backline bench scale --songs 140000`")
STEMS_KB = Amount("stems, kB a second", 288.0, "derived", "two stereo stems of 24 bits at 48 kHz, FLAC at half of PCM")
OVERHEAD_MS = Amount("catalogue, ledger, Prefect, sharder: ms of CPU a song and stage", 0.744, "measured",
                     "`backline bench scale --songs 140000`")  # fmt: skip
STEPS = 12  # stages and shards
CORES, GPUS = 1000, 64  # that the days are told for


@dataclass(frozen=True, slots=True)
class Library:
    """What is built."""

    songs: int
    hours: float


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the answer."""

    name: str
    value: float
    unit: str
    dollars: float
    source: str


PAPER = Library(140_000, 8_000.0)  # songs; hours if a song lasts 206 s. Assumed
LARGE = Library(1_400_000, 100_000.0)


def lines(library: Library) -> list[Line]:
    """Everything that a build of the library takes."""
    found = [_cpu(stage, library) for stage in CPU_STAGES]
    found.append(_total("embedded stages together", "core hours", found))
    gpu = [_gpu(stage, library) for stage in GPU_STAGES]
    found += [*gpu, _total("the paper's models together", "A100 hours", gpu)]
    overhead = library.songs * STEPS * OVERHEAD_MS.value / 3.6e6
    found.append(Line(OVERHEAD_MS.name, overhead, "core hours", overhead * CORE_HOUR, OVERHEAD_MS.source))
    minutes = library.hours * 60 / library.songs
    shards = library.songs * (1 + COPIED) * SHARD_KB.value * minutes / 4 / 1e6
    return [
        *found,
        _stored(
            "shards, both stages of training", shards * 1.5, SHARD_KB.source + "; half of the songs lie in both sets"
        ),
        _stored("ledger", library.songs * LEDGER_KB.value / 1e6, LEDGER_KB.source),
        _stored("stems, all kept", library.hours * 3600 * STEMS_KB.value / 1e6, STEMS_KB.source),
        _stored(
            "stems, until tokenized, held-out songs kept", library.hours * 72 * STEMS_KB.value / 1e6, "2 % of them"
        ),
    ]


def days(library: Library, cores: int, gpus: int) -> tuple[float, float]:
    """Days of the embedded stages on so many cores, of the paper's models on so many A100s."""
    cpu = sum(_cpu(stage, library).value for stage in CPU_STAGES)
    gpu = sum(_gpu(stage, library).value for stage in GPU_STAGES)
    return cpu / cores / 24, gpu / gpus / 24


def page(libraries: Sequence[Library] = (PAPER, LARGE)) -> str:
    """The tables in Markdown: the part of ``infra/sizing.md`` that is computed."""
    told = []
    for library in libraries:
        told += [f"### {library.songs:,} songs, {library.hours:,.0f} hours", ""]
        told += ["| what | amount | | $ | from |", "|---|---|---|---|---|"]
        for line in lines(library):
            told.append(
                f"| {line.name} | {number(line.value)} | {line.unit} | {number(line.dollars)} | {line.source} |"
            )
        cpu, gpu = days(library, CORES, GPUS)
        told += [
            "",
            f"That is {cpu:.1f} days of {CORES:,} cores for the embedded stages, or {gpu:.1f} days of {GPUS} A100s",
        ]
        told += ["for the paper's models.", ""]
    told += ["### Prices", "", *(f"- {price.name}: {price.value:g} ({price.source})" for price in PRICES), ""]
    return "\n".join(told)


def number(value: float) -> str:
    """Three digits that count."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:,.3g}"


def _cpu(stage: CpuStage, library: Library) -> Line:
    hours = library.hours * 60 * stage.seconds_per_minute / 3600
    return Line(f"{stage.name}, embedded", hours, "core hours", hours * CORE_HOUR, stage.source)


def _gpu(stage: GpuStage, library: Library) -> Line:
    hours = library.hours / stage.times_real_time
    source = (
        f"derived: {stage.flop / 1e9:.0f} GFLOP/s of audio, {stage.times_real_time:.0f} x real time; {stage.source}"
    )
    return Line(stage.name, hours, "A100 hours", hours * GPU_HOUR, source)


def _total(name: str, unit: str, parts: Sequence[Line]) -> Line:
    return Line(f"**{name}**", sum(part.value for part in parts), unit, sum(part.dollars for part in parts), "sum")


def _stored(name: str, gigabytes: float, source: str) -> Line:
    return Line(name, gigabytes, "GB", gigabytes * GB_MONTH, f"{source}; $ a month")

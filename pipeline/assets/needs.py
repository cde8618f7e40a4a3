"""What a worker of a backend needs of its machine: weights, packages, memory, and how many songs it takes at once.

A stage with heavy backends says it in its light module, as ``needs(config) -> Needs`` beside ``BACKENDS``. `backline
doctor`, `backline assets pull --recipe` and the engine's placement read the same declaration, and nothing heavy is
imported for it.

Conventions: memory in GB (1e9 bytes), of one worker with its model loaded and one batch in work; a GPU's is what counts
with ``device: cuda``, the machine's with ``device: cpu``.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Extra:
    """A package that is no plain dependency of Backline."""

    module: str  # its import name: found without being imported
    install: str  # the command that brings it, ``pip install "audio-separator>=0.47"``
    licence: str


@dataclass(frozen=True, slots=True)
class Program:
    """A program that a backend's package calls."""

    name: str  # on the PATH
    install: str  # the command that brings it


@dataclass(frozen=True, slots=True)
class Needs:
    """The defaults are those of a backend that Backline ships: nothing but one CPU."""

    assets: tuple[str, ...] = ()  # names in `pipeline.assets.known`
    extras: tuple[Extra, ...] = ()
    programs: tuple[Program, ...] = ()
    cuda: bool = False  # whether it is of no use without a GPU (a song would take longer than `build.song_seconds`)
    gpu_memory_gb: float = 0.0  # of one worker; 0 = small beside any GPU, or it has no use for one
    memory_gb: float = 0.0  # of one worker; 0 = small beside any machine
    cpus: float = 1.0
    # s of audio that fit into `gpu_memory_gb` at once; 0 = one piece at a time, whatever its length. The first guess
    # of the batch size: out of memory halves it (`pipeline.batching`).
    batch_seconds: float = 0.0
    # s of whole songs that a worker is given at once on a GPU, so that pieces of one fill up another's batches; 0 = one
    # song at a time, as for backends whose batches one song fills, and everywhere on a CPU.
    songs_seconds: float = 0.0

    def batch_size(self, seconds: float, at_most: int = 64) -> int:
        """How many pieces of that length make one batch; at least one. Pieces of unequal length: of the longest."""
        if seconds <= 0:
            raise ValueError(f"a piece of {seconds} s has no batch size; give its length in seconds, above 0")
        return max(1, min(at_most, int(self.batch_seconds / seconds)))


SHIPPED = Needs()  # of a backend whose weights come with Backline's own dependencies


def joined(needs: Iterable[Needs]) -> Needs:
    """What one worker needs that loads several models: all assets, extras and programs once, memory added up."""
    every = list(needs)
    return Needs(
        assets=tuple(dict.fromkeys(name for need in every for name in need.assets)),
        extras=tuple(dict.fromkeys(extra for need in every for extra in need.extras)),
        programs=tuple(dict.fromkeys(program for need in every for program in need.programs)),
        cuda=any(need.cuda for need in every),
        gpu_memory_gb=sum(need.gpu_memory_gb for need in every),
        memory_gb=sum(need.memory_gb for need in every),
        cpus=max((need.cpus for need in every), default=1.0),
        batch_seconds=min((need.batch_seconds for need in every), default=0.0),
        songs_seconds=max((need.songs_seconds for need in every), default=0.0),
    )

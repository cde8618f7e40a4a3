"""CPU seconds that a stage costs per minute of audio."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Meter:
    """Adds up the CPU time (all threads of this process) of timed blocks and the audio they worked on."""

    def __init__(self) -> None:
        self.cpu_seconds = 0.0
        self.audio_seconds = 0.0

    @contextmanager
    def timing(self, audio_seconds: float) -> Iterator[None]:
        """Count a block that works on so many seconds of audio; one that raises is not counted."""
        started = time.process_time()
        yield
        self.cpu_seconds += time.process_time() - started
        self.audio_seconds += audio_seconds

    @property
    def seconds_per_minute(self) -> float:
        """CPU seconds per minute of audio; NaN where nothing was timed."""
        return 60 * self.cpu_seconds / self.audio_seconds if self.audio_seconds else float("nan")

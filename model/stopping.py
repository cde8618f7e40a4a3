"""SIGTERM and SIGINT turned into a polite request: finish the step, save, leave."""

import logging
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

logger = logging.getLogger(__name__)

RESUME_ME = 75  # exit code EX_TEMPFAIL of sysexits.h: stopped and saved, run the same command again
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def leave_to_trainer(worker: int) -> None:
    """What a data loader's worker begins with: who signals all processes of a job means the trainer, which ends its
    workers itself. One that died of the signal would take the trainer along before it has saved."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class StopRequest:
    """A context in which the two signals only set `requested`; a second SIGINT interrupts at once.

    Outside the main thread Python allows no handlers: then nothing is caught.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[signal.Signals, signal.Handlers | object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        logger.warning("process %d: signal %d, stopping after this step", os.getpid(), number)

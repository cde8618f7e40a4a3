"""A worker process: loads a model, then makes a row of each song it is given. Started by `flows.engine.supervisor`.

Conventions: messages are pickles. In come `Load` and `Batch`; out go `Loaded`, a tuple of rows in the batch's order and
`BackendUnavailable`. Anything else that loading a model raises ends the process, its traceback in the file that the
supervisor reads.
"""

import faulthandler
import logging
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TextIO

from flows.engine.attempt import Batch, attempts, load
from flows.stages.context import Context
from pipeline.errors import BackendUnavailable
from pipeline.records.ledger import Row


@dataclass(frozen=True, slots=True)
class Load:
    """The worker ``module:Class`` that the next songs are for."""

    worker: str
    context: Context


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is there."""


Answer = Loaded | tuple[Row, ...] | BackendUnavailable


def main(channel: int, story: int, seconds: float) -> None:
    """Work until the supervisor hangs up."""
    os.set_inheritable(channel, False)
    os.set_inheritable(story, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the flow, which ends its workers
    _end_with_supervisor()
    connection, trouble = Connection(channel), os.fdopen(story, "w", buffering=1)
    faulthandler.enable(trouble)
    _die_of_alarms(trouble)
    logging.captureWarnings(True)
    desk = Desk(seconds, trouble)
    while True:
        try:
            message = connection.recv_bytes()
        except (EOFError, ConnectionResetError):  # reset: the supervisor was killed and left an answer unread
            return
        connection.send_bytes(pickle.dumps(desk.answer(pickle.loads(message))))


@dataclass(slots=True)
class Desk:
    """What the process is at work on."""

    seconds: float  # s, limit for a song; 0 = none
    trouble: TextIO
    wanted: Load | None = None
    loading: float = 0.0  # s, not yet in a row

    def answer(self, message: Load | Batch) -> Answer:
        try:
            if isinstance(message, Load):
                return self._load(message)
            with self._limited(len(message)):
                return self._work(message)
        except BackendUnavailable as error:
            return error
        except BaseException:
            traceback.print_exc(file=self.trouble)
            raise

    def _load(self, message: Load) -> Loaded:
        if message != self.wanted:
            self.wanted = message
            self.loading += load(message.worker, message.context)
        return Loaded()

    def _work(self, batch: Batch) -> tuple[Row, ...]:
        if self.wanted is None:
            raise RuntimeError("a song came before its worker's name")
        loading, self.loading = self.loading, 0.0
        return attempts(self.wanted.worker, self.wanted.context, batch, loading)

    @contextmanager
    def _limited(self, songs: int) -> Iterator[None]:
        """At their time limit an alarm writes where each thread is, and ends us; see `_die_of_alarms`."""
        signal.setitimer(signal.ITIMER_REAL, self.seconds * songs)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)


def _die_of_alarms(trouble: TextIO) -> None:
    """Write where each thread is, then end as an alarm ends who does not wait for it.

    The handler needs no lock of Python's, so code that holds it for good is ended too. An alarm is two calls of the
    system a song, where a thread that waits for the limit was a fifth of what a light song cost.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    faulthandler.register(signal.SIGALRM, trouble, all_threads=True, chain=True)


def _end_with_supervisor() -> None:
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def hold_lifeline() -> None:
        os.read(lifeline, 1)  # returns when the other end is closed
        os._exit(1)

    threading.Thread(target=hold_lifeline, daemon=True, name="lifeline").start()

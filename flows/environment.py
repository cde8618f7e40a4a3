"""Settings of Prefect that must stand before it is imported: no analytics, patience with a slow start, our logs in
its UI.
"""

import logging
import os

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,pipeline,model",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # our modules also log outside flows
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "60",  # s; flows/server_setup.py's watch waits for several
    "PREFECT_CLIENT_MAX_RETRIES": "8",  # 2 + 4 + .. + 256 s for a server that is away at a run's start or end
    # Events that wait for a server that is away: at a run's end each is tried for 7 s, so 256 hold it up for half an
    # hour at most. Later ones are dropped, and the UI misses tasks; the ledger has them.
    "PREFECT_EVENTS_WORKER_MAX_QUEUE_SIZE": "256",
    "TOKENIZERS_PARALLELISM": "false",
}

RUNS_QUIET = {
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",  # else every event that a server that is away misses is 2 KB of text
    "PREFECT_LOGGING_LOGGERS_PREFECT_FLOW_RUNS_LEVEL": "CRITICAL",  # a failure is told once, below, without traceback
    "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "CRITICAL",
}
QUIET = RUNS_QUIET | {"PREFECT_LOGGING_LEVEL": "WARNING"}


def show_our_logs() -> None:
    """Let our lines through to Prefect's UI: in a worker's process the root logger would drop them."""
    for ours in ("flows", "pipeline", "model"):
        logging.getLogger(ours).setLevel(logging.INFO)


def prepare(quiet: bool = False) -> None:
    """Set what the user has not set; `quiet` keeps Prefect's own log lines off the terminal."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    for name, value in (QUIET if quiet else {}).items():
        os.environ.setdefault(name, value)


def let_runs_tell() -> None:
    """Undo the silence of runs where the UI shows their logs: failures are sought there. Before Prefect is imported."""
    for name, value in RUNS_QUIET.items():
        if os.environ.get(name) == value:
            del os.environ[name]

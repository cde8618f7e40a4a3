"""What all tests share."""

import os

from flows.environment import prepare

prepare(quiet=True)
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")

"""`python -m flows.cli`: the `backline` command where no script is installed."""

from flows.cli.main import app

app()

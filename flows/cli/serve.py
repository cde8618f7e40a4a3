"""`backline serve`: Prefect's server and UI with the three deployments, on loopback."""

from typing import Annotated

import typer

commands = typer.Typer()


@commands.command()
def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI and API on 127.0.0.1.")] = 4200,
    limit: Annotated[int, typer.Option(min=1, help="Flow runs at the same time.")] = 1,
) -> None:
    """Start the Prefect server and UI, and run the deployments build-dataset, train-model and evaluate-model.

    Open http://127.0.0.1:4200, choose a deployment, press Run. Ctrl-C stops everything; finished work is kept.
    """
    from flows.serving import serve_all

    serve_all(port, limit)

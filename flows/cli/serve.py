"""`backline serve` and `deploy`: the flows on a Prefect server of this machine, or on one that runs elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import out
from flows.deploying import PoolKind
from flows.environment import let_runs_tell

commands = typer.Typer()
GpuSlots = Annotated[
    int, typer.Option(min=0, help="Stages that need a GPU at the same time, over all runs; 0 = no limit.")
]


@commands.command()
def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI and API on 127.0.0.1.")] = 4200,
    limit: Annotated[int, typer.Option(min=1, help="Flow runs at the same time; from 2 on, partitions too.")] = 1,
    gpu_slots: GpuSlots = 1,
) -> None:
    """Start the Prefect server and UI, and run the deployments build-dataset, train-model and evaluate-model.

    Open http://127.0.0.1:4200, choose a deployment, press Run. Ctrl-C stops everything; finished work is kept.
    """
    let_runs_tell()
    from flows.serving import serve_all

    serve_all(port, limit, gpu_slots)


@commands.command()
def deploy(
    on: Annotated[PoolKind, typer.Option(help="Kind of the work pool: process, docker or kubernetes.")] = "process",
    infra: Annotated[Path, typer.Option(help="The checkout's folder of pool templates and deployments.")] = Path(
        "infra"
    ),
    gpu_slots: GpuSlots = 1,
) -> None:
    """Make work pool, deployments, GPU limit and the watch over killed runs on the server at PREFECT_API_URL.

    Run it again after an update.

    Example: PREFECT_API_URL=http://127.0.0.1:4200/api backline deploy
    """
    from flows.deploying import deploy as deploy_to

    pool = deploy_to(on, infra, gpu_slots)
    out.print(f"Deployed. Start a worker where the work is to be done: prefect worker start --pool {pool}")

"""The `backline` command. Heavy modules are imported by the command that needs them, so that --help answers at once."""

import logging
import sys

import typer
from rich.markup import escape

from flows.cli import (
    assets,
    bench,
    build,
    codec,
    conditioning,
    demo,
    doctor,
    library,
    model,
    separation,
    serve,
    songs,
    status,
    structure,
    upkeep,
    why,
)
from flows.cli.console import err
from flows.environment import prepare
from flows.leaving import COMMAND_SECONDS, end_within
from pipeline.errors import PipelineError

commands = typer.Typer(
    name="backline",
    help="A song library in, a model that plays a band behind any voice out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
commands.add_typer(songs.commands, name="songs")
commands.add_typer(assets.commands, name="assets")
commands.add_typer(codec.commands, name="codec")
commands.add_typer(separation.commands, name="separation")
commands.add_typer(structure.commands, name="structure")
commands.add_typer(conditioning.commands, name="conditioning")
commands.add_typer(bench.commands, name="bench")
for group in (build, library, status, why, doctor, upkeep, model, serve, demo):
    for command in group.commands.registered_commands:
        commands.registered_commands.append(command)


def app() -> None:
    """Run a command; an error we raise on purpose is one clear message and exit code 1, not a traceback."""
    prepare(quiet=True)
    logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(name)s: %(message)s")
    for noisy in ("aiobotocore", "httpx", "matplotlib", "numba", "prefect", "websockets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    status = 1
    try:
        commands()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        raise
    except (PipelineError, ValueError, FileNotFoundError) as error:
        err.print(f"[bold red]backline:[/] {escape(str(error))}", highlight=False, soft_wrap=True, markup=True)
        logging.getLogger(__name__).debug("details", exc_info=True)
        sys.exit(1)
    finally:
        end_within(COMMAND_SECONDS, status)

"""What a build asks of Prefect's server when that is away, refuses or is slow to come back."""

import logging

import httpx
import pytest
from prefect.artifacts import create_progress_artifact
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect_server import free_port

from flows import control
from flows.control import ServerAwayError, best_effort, end_is_told, patiently
from flows.tasks import Progress
from pipeline.records.ledger import Row

REQUEST = httpx.Request("GET", "http://127.0.0.1/api")


def refusal(code: int) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError(f"status {code}", request=REQUEST, response=httpx.Response(code, request=REQUEST))


@pytest.mark.filterwarnings("ignore:Artifact creation outside:FutureWarning")
def test_what_can_be_done_without_costs_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    away = {PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}
    with caplog.at_level(logging.WARNING), temporary_settings(away), best_effort("an artifact"):
        create_progress_artifact(progress=1.0)
    assert "an artifact: Prefect's server did not take it (ConnectError" in caplog.text


def test_what_can_be_done_without_is_tried_once() -> None:
    with best_effort("a question"):
        assert PREFECT_CLIENT_MAX_RETRIES.value() == 0


def test_other_errors_are_not_the_servers() -> None:
    with pytest.raises(ZeroDivisionError), best_effort("a sum"):
        1 / 0  # noqa: B018


@pytest.mark.filterwarnings("ignore:Artifact creation outside:FutureWarning")
def test_progress_goes_on_without_a_server_and_asks_no_second_time(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.tasks.SHOW_SECONDS", -1.0)  # every song is due
    with caplog.at_level(logging.WARNING), temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        progress = Progress("detection", 0)
        progress.start(3)
        for number in range(3):
            progress.add(Row(f"{number:032x}", "ok"))
        progress.close()
    assert progress.done == 3
    assert caplog.text.count("the build goes on") == 1


def test_a_server_that_comes_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "POLL_SECONDS", 0.0)
    answers: list[Exception | int] = [httpx.ConnectError("away"), refusal(503), httpx.ReadTimeout("slow"), 7]

    def ask() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently("the answer", ask) == 7
    assert answers == []


@pytest.mark.parametrize(("error", "patience"), [(refusal(422), 60.0), (httpx.ConnectError("away"), -1.0)])
def test_a_no_and_the_end_of_patience_are_raised(error: Exception, patience: float) -> None:
    asked = []

    def ask() -> None:
        asked.append(1)
        raise error

    with pytest.raises(type(error)):
        patiently("the answer", ask, patience)
    assert len(asked) == 1


@pytest.mark.parametrize("error", [refusal(503), httpx.ConnectError("All connection attempts failed")])
def test_run_whose_server_went_away_ends_with_a_word_on_what_to_do(error: Exception) -> None:
    with pytest.raises(ServerAwayError, match=r"What was done is on disk .* run it again"), end_is_told():
        raise error


def test_run_whose_server_said_no_ends_with_that() -> None:
    with pytest.raises(httpx.HTTPStatusError, match="422"), end_is_told():
        raise refusal(422)

"""Human review: the flow run is paused with a form, and resumes after a decision there or by `oel review`.

The decision is always a file of the run. A watcher thread resumes the paused flow run when the file appears, and
applies `review.on_timeout` after the timeout.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, Literal
from uuid import UUID

from prefect import pause_flow_run
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.input import RunInput
from prefect.logging import get_logger, get_run_logger
from prefect.runtime import flow_run

from flows.pages.round import review_key, review_markdown
from oel_core.errors import ConfigError
from oel_core.projects.review import Decision, ask, decide, decision_of
from oel_core.rounds.knowledge import REVIEW
from oel_core.rounds.round import Round
from tasks.progress import progress
from tasks.resources import free_policies

POLL_SECONDS = 2.0
DAY = 24 * 3600


class ReviewForm(RunInput):
    """The reviewer's form."""

    decision: Literal["approve", "reject"] = "approve"
    drop: str = ""
    """Numbers of the items to drop, comma-separated."""
    note: str = ""
    author: str = ""


def wait_for_review(round: Round) -> None:
    """Returns when there is a decision, or after the timeout if `review.on_timeout` is `fail`."""
    if round.stage(REVIEW).finished or decision_of(round) is not None:
        return
    name, number = round.run.name, round.number
    deadline = ask(round) + 60 * round.config.review.timeout_minutes
    text = review_markdown(round)
    create_markdown_artifact(text, key=review_key(round.run, number), description=f"Round {number} waits for review")
    progress(f"round {number}: waits for review: oel review {name}")(0, 1)
    free_policies()
    while decision_of(round) is None:
        with _watcher(round, deadline, UUID(str(flow_run.id))) as gave_up:
            form = pause_flow_run(
                wait_for_input=ReviewForm.with_initial_data(description=text),
                timeout=int(max(0, deadline - time.time())) + DAY,
                poll_interval=int(POLL_SECONDS),
            )
        if gave_up.is_set():
            return
        if decision_of(round) is None:
            _take(form, round)


def _take(form: ReviewForm, round: Round) -> None:
    """Stores the form's decision; an invalid form is requested again."""
    try:
        dropped = tuple(int(number) for number in form.drop.replace(",", " ").split())
        author = form.author.strip() or "somebody in the Prefect UI"
        decide(round, _decision(form.decision, dropped, form.note, author, "prefect"))
    except (ConfigError, ValueError) as error:
        get_run_logger().warning("the review cannot be used, so it is asked for again: %s", error)


def _decision(decision: Any, dropped: tuple[int, ...], note: str, author: str, via: Any) -> Decision:
    return Decision(decision=decision, dropped=dropped, note=note, author=author, via=via, decided_at=time.time())


@contextmanager
def _watcher(round: Round, deadline: float, flow_run_id: UUID) -> Iterator[Event]:
    """Resumes the flow run when a decision file appears or after the timeout; sets the event when it gives up."""
    done, gave_up = Event(), Event()

    def watch() -> None:
        while not done.wait(POLL_SECONDS):
            try:
                if decision_of(round) is None:
                    if time.time() < deadline:
                        continue
                    _time_is_over(round, gave_up)
                with get_client(sync_client=True) as client:
                    client.resume_flow_run(flow_run_id, run_input=ReviewForm().model_dump())
            except Exception as error:  # an exception would end the thread, and with it the detection of decisions
                get_logger("oel").warning("the review is looked for again: %s", error)

    thread = Thread(target=watch, name="review", daemon=True)
    thread.start()
    try:
        yield gave_up
    finally:
        done.set()
        thread.join()


def _time_is_over(round: Round, gave_up: Event) -> None:
    settings = round.config.review
    if settings.on_timeout == "fail":
        gave_up.set()
        return
    note = f"nobody decided within {settings.timeout_minutes} minutes"
    decide(round, _decision(settings.on_timeout, (), note, "timeout", "timeout"))

"""The web pages in a real browser: a run is started, watched, cancelled; runs are compared; a report is opened.

`OEL_SCREENSHOTS=docs/images` makes the documents' pictures again; `OEL_QUICKSTART` names a finished run whose report is
opened besides the one made here.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from oel_core.runs.processes import is_alive
from tasks.tracking.pages import COLUMNS, artifact_page, runs_page
from tests.e2e.operating import NO_WATCH, PATIENCE_S, Project, Services, until

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome")
SLOW_MS = 120_000
DESKTOP, PHONE = (1280, 800), (390, 844)
MAX_BYTES = 300_000
OWN = ("file:", "data:")
"""What a report that needs no network may ask for."""

Shoot = Callable[[Any, str], None]


def chromium() -> str:
    """The browser that is installed; a failed test says what is missing, since it was asked for."""
    found = os.environ.get("OEL_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.fail("no chromium is installed: apt-get install chromium, or name one with OEL_CHROMIUM", pytrace=False)
    return str(found)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    path = chromium()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail("playwright is not installed: pip install 'oel[browser]', or `make extras`", pytrace=False)
    with sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        found = playwright.chromium.launch(executable_path=path, args=options)
        yield found
        found.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": DESKTOP[0], "height": DESKTOP[1]}, color_scheme="light")
    context.set_default_timeout(SLOW_MS)
    yield context.new_page()
    context.close()


@pytest.fixture
def shoot() -> Shoot:
    """Keeps a picture of what is seen, if pictures are asked for."""
    folder = os.environ.get("OEL_SCREENSHOTS")

    def keep(page: Any, name: str) -> None:
        if folder is None:
            return
        path = Path(folder) / f"{name}.png"
        page.wait_for_timeout(1500)
        page.screenshot(path=path, animations="disabled")
        shrink(path)

    return keep


def shrink(path: Path) -> None:
    """To a palette of 128 colours, which is enough for pages."""
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(128)
    small.save(path, optimize=True)
    assert path.stat().st_size < MAX_BYTES


def started_by_hand(page: Any, services: Services, project: str, *overrides: str) -> str:
    """Fills in the form of `next-round`, submits it, opens the flow run's page and returns its id."""
    page.goto(f"http://127.0.0.1:{services.prefect}/deployments")
    page.get_by_role("link", name="next-round").first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    fields = page.locator("textarea")
    fields.first.fill(project)
    for number, override in enumerate(overrides):
        page.get_by_role("button", name="Add item").click()
        fields.nth(1 + number).fill(override)
    return submitted(page)


def submitted(page: Any) -> str:
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="View run").first.dispatch_event("click")  # it moves, and is gone before it rests
    page.wait_for_url("**/runs/flow-run/*")
    return str(page.url.rsplit("/", 1)[1].split("?")[0])


def test_a_round_is_started_watched_and_read_in_the_ui(page: Any, services: Services, shoot: Shoot) -> None:
    page.goto(f"http://127.0.0.1:{services.prefect}/deployments")
    page.get_by_role("link", name="next-round").first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    page.get_by_text("Name of the project, a run folder under the run root.").wait_for()
    page.locator("textarea").first.fill("by-hand")
    page.get_by_role("button", name="Add item").click()
    page.locator("textarea").nth(1).fill("distill.steps=4")
    shoot(page, "prefect-form")
    flow_run = submitted(page)
    page.get_by_text("Refused", exact=True).first.wait_for(timeout=1000 * PATIENCE_S)
    shoot(page, "prefect-run")
    assert services.state(flow_run)["type"] == "CANCELLED", "grey: not a new champion, and nothing is wrong"
    assert services.project("by-hand").run.config().distill.steps == 4
    page.get_by_text("Artifacts", exact=True).click()
    page.get_by_text("by-hand-outcome").last.click()
    page.wait_for_url("**/artifacts/artifact/*")
    page.get_by_role("heading", name="by-hand: round 1 refused").wait_for()
    page.get_by_text("pass rate").first.wait_for()
    shoot(page, "prefect-artifact")


def test_a_round_is_cancelled_in_the_ui(page: Any, services: Services) -> None:
    project = services.project("stopped")
    flow_run = started_by_hand(page, services, "stopped", "distill.steps=400", NO_WATCH)
    until(lambda: project.run.has(1, "accumulate"), "the round is in the middle")
    trainer = project.trainer().holder
    page.reload()
    page.get_by_role("button", name="Cancel").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Confirm").click()
    began = time.monotonic()
    until(lambda: is_alive(trainer) is False, "the flow run's process is gone")
    assert time.monotonic() - began < 10 + 10, "10 s, and as much for a busy machine"
    assert project.lease() is None
    assert services.ended(flow_run)["type"] == "CANCELLED"
    page.get_by_text("Cancelled", exact=True).first.wait_for()


@pytest.fixture
def rounds(services: Services) -> Project:
    """A project with a finished round."""
    project = services.project("by-hand")
    if not project.run.has(1, "gate"):
        services.ended(project.trigger("for-the-browser"))
    return project


def test_runs_are_compared_in_mlflow(page: Any, services: Services, rounds: Project, shoot: Shoot) -> None:
    from mlflow.tracking import MlflowClient

    base = f"http://127.0.0.1:{services.mlflow}"
    client = MlflowClient(base)
    experiment = client.get_experiment_by_name("oel")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"attributes.run_name LIKE '{rounds.name} round %'")
    chosen = quote(json.dumps([run.info.run_id for run in runs]))
    page.goto(f"{base}/#/compare-runs?runs={chosen}&experiments={quote(json.dumps([experiment.experiment_id]))}")
    page.get_by_text(f"Comparing {len(runs)} Runs from 1 Experiment").wait_for()
    for number in (0, 1):
        page.get_by_text(f"{rounds.name} round {number}", exact=True).first.wait_for()
    page.get_by_text(re.compile("^evaluate/held_out/")).locator("visible=true").first.wait_for()
    page.get_by_text("accumulate/tokens_mean").first.wait_for()  # of the long table only what is in view is there
    page.goto(f"{base}/#/experiments/{experiment.experiment_id}/runs?compareRunsMode=CHART")
    page.get_by_role("button", name="Close").first.click()
    page.get_by_text(rounds.name, exact=True).first.wait_for()
    shoot(page, "mlflow-compare")


def test_the_address_of_the_runs_shows_their_metrics(page: Any, services: Services, rounds: Project) -> None:
    """On a page of its own: MLflow stays empty when one leaves a shared view by an address."""
    from mlflow.tracking import MlflowClient

    base = f"http://127.0.0.1:{services.mlflow}"
    experiment = MlflowClient(base).get_experiment_by_name("oel")
    assert experiment is not None
    page.goto(runs_page(base, experiment.experiment_id))
    page.get_by_text(rounds.name, exact=True).first.wait_for()
    for column in COLUMNS[:2]:
        page.get_by_text(column, exact=True).first.wait_for()


def test_the_artifact_of_a_round_links_to_its_report(page: Any, services: Services, rounds: Project) -> None:
    """A browser follows no file:// from a page, so the link is to the server that shows the artifacts."""
    from mlflow.tracking import MlflowClient

    base = f"http://127.0.0.1:{services.mlflow}"
    experiment = MlflowClient(base).get_experiment_by_name("oel")
    assert experiment is not None
    found = services.api("artifacts/filter", {"artifacts": {"key": {"any_": [f"{rounds.name}-outcome"]}}})
    run_id = json.loads((rounds.run.path / "mlflow.json").read_text())["runs"]["loop"]
    address = artifact_page(base, experiment.experiment_id, run_id, "report.html")
    assert all(f"(<{address}>)" in one["data"] for one in found)
    assert found
    page.goto(address)
    page.frame_locator("iframe").first.get_by_text("Which round to serve?").wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("kind", "size"), [("desktop", DESKTOP), ("phone", PHONE)])
def test_the_report_reads_on_any_screen_without_an_error(
    browser: Any, services: Services, rounds: Project, shoot: Shoot, kind: str, size: tuple[int, int], theme: str
) -> None:
    given = os.environ.get("OEL_QUICKSTART")
    report = (Path(given) if given else rounds.run.path) / "report.html"
    problems: list[str] = []
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=theme, offline=True)
    page = context.new_page()
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request", lambda asked: problems.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None
    )
    page.goto(report.resolve().as_uri())
    page.get_by_role("heading").first.wait_for()
    assert page.locator("svg").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"
    red, green, blue = map(
        int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]
    )
    assert (red + green + blue > 3 * 128) == (theme == "light")
    assert problems == []
    shoot(page, f"report-{kind}-{theme}")
    context.close()

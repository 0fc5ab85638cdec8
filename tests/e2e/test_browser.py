"""The web pages in a real browser, as a person uses them: a run started, watched and cancelled, runs compared, a report.

`OEL_SCREENSHOTS=docs/images` makes the documents' pictures again; `OEL_QUICKSTART` names a finished run whose report is
opened besides the one made here.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oel_core.processes import is_alive
from tests.e2e.operating import SOURCE, Project, Services, until

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome")
SLOW_MS = 120_000
DESKTOP, PHONE = (1280, 800), (390, 844)
MOST_BYTES = 300_000

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
    assert path.stat().st_size < MOST_BYTES

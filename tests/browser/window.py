"""A headless Chromium on this machine: what a person does with Prefect's page, by the names that a person reads."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, sync_playwright

PATIENCE = 180_000  # ms for one thing to appear; the page took 50 s to load beside ten other processes
WIDTH, HEIGHT = 1400, 1000  # px
LOOPBACK_ONLY = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


@dataclass
class Window:
    """A browser's window, and whom it tried to talk to beyond this machine."""

    page: Page
    shots: Path
    outside: list[tuple[str, str]] = field(default_factory=list)  # method, URL

    def note(self, request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.outside.append((request.method, request.url))

    def shoot(self, name: str, height: int = HEIGHT) -> None:
        """A picture of the page's upper part, `height` px."""
        self.page.set_viewport_size({"width": WIDTH, "height": height})
        self.page.screenshot(path=self.shots / f"{name}.png", animations="disabled")
        self.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()


def chromium() -> str:
    """Its path; skip without it, fail under CI."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("chromium is missing: install the packages of tests/debian.txt")
    if found is None:
        pytest.skip("no chromium here: install the packages of tests/debian.txt")
    return found


@contextmanager
def open_window(shots: Path, last: Path) -> Iterator[Window]:
    """A window that finds nothing but this machine; its pictures go to `shots`, what it showed at the end to `last`."""
    shots.mkdir(parents=True, exist_ok=True)
    arguments = ["--no-sandbox", "--disable-gpu", LOOPBACK_ONLY]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments, timeout=PATIENCE)
        window = Window(browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}), shots)
        window.page.set_default_timeout(PATIENCE)
        window.page.on("request", window.note)
        try:
            yield window
        finally:
            window.page.screenshot(path=last)
            browser.close()

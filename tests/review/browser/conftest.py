"""A browser that pages are opened in."""

import os
import shutil

import pytest

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="package")
def browser():
    """A headless Chromium; without one the tests are skipped, or fail under ``CI=true``."""
    lacking = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    chromium = shutil.which("chromium")
    if chromium is None:
        lacking("there is no chromium on PATH to open the page in")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacking("there is no playwright to open the page with")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)

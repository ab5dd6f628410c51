"""A real browser, without a screen, for the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

_FIND = """
const find = (root) => {
  const found = root.querySelector(arguments[0]);
  if (found) return found;
  for (const each of root.querySelectorAll("*")) {
    const inside = each.shadowRoot && find(each.shadowRoot);
    if (inside) return inside;
  }
  return null;
};
const found = find(document);
return found && found.textContent;
"""
"""The text of the first element that a selector finds, in the shadow trees of Bokeh's models as well."""


class Browser:
    """What the tests need of a browser.

    Parameters
    ----------
    driver
        Of selenium.
    """

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def text(self, selector: str) -> str:
        """Return the text of an element; empty as long as it is not there."""
        return self.driver.execute_script(_FIND, selector) or ""

    def run(self, code: str, *arguments):
        """Return what JavaScript returns."""
        return self.driver.execute_script(code, *arguments)

    def wait(self, condition, what: str, timeout_s: float = 120.0):
        """Wait until something is true, and return it."""
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < deadline, f"{what}; the browser says {self.errors()}"
            time.sleep(0.05)
        return value

    def errors(self) -> list[str]:
        """Return what the page's scripts have complained about since the last time."""
        return [each["message"] for each in self.driver.get_log("browser") if each["level"] == "SEVERE"]


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    """Start a headless Chromium; it ends with the context."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--disable-gpu", "--window-size=1500,1000", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # as root there is none
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        started.set_page_load_timeout(60)
        yield Browser(started)
    finally:
        started.quit()

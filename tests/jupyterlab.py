"""A JupyterLab of this interpreter, driven in a browser as a user drives it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .browser import Browser

_START_TIMEOUT_S = 90
_NOTEBOOK_SETTINGS = "@jupyterlab/notebook-extension/tracker.jupyterlab-settings"

_UPDATES = "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements."

_OPENED = """
const { currentWidget } = window.jupyterapp?.shell ?? {};
const kernel = currentWidget?.sessionContext?.session?.kernel;
return Boolean(kernel && currentWidget.content?.widgets?.length && kernel.status === "idle");
"""
_DONE = """
const { content, sessionContext } = window.jupyterapp.shell.currentWidget;
const codes = content.widgets.slice(0, arguments[0]).filter((cell) => cell.model.type === "code");
return codes.every((cell) => cell.model.executionCount) && sessionContext.session.kernel.status === "idle";
"""


class Lab:
    """A notebook that is open in JupyterLab.

    Parameters
    ----------
    browser
        Shows it.
    path
        The notebook's file.
    """

    def __init__(self, browser: Browser, path: Path) -> None:
        self.browser = browser
        self._path = path
        self.n_cells = len(json.loads(path.read_text())["cells"])

    def command(self, name: str) -> None:
        """Begin what a menu does."""
        self.browser.run("window.jupyterapp.commands.execute(arguments[0])", name)

    def select(self, cell: int) -> None:
        """Go to a cell, from 0."""
        code = "window.jupyterapp.shell.currentWidget.content.activeCellIndex = arguments[0]"
        self.browser.run(code, cell)

    def wait_for_cells(self, behind: int, timeout_s: float) -> None:
        """Wait until all cells before one have run."""
        self.browser.wait(lambda: self.browser.run(_DONE, behind), "a cell does not end", timeout_s)

    def saved(self) -> str:
        """Save the notebook, and return the text of its file."""
        before = self._path.read_text()
        self.command("docmanager:save")
        self.browser.wait(lambda: self._is_saved(before), "the notebook is not saved")
        return self._path.read_text()

    def _is_saved(self, before: str) -> bool:
        """Whether the file is another one, as a whole: the server empties it first."""
        text = self._path.read_text()
        with contextlib.suppress(ValueError):
            return text != before and bool(json.loads(text))
        return False


@contextlib.contextmanager
def opened(browser: Browser, path: Path, variables: dict[str, str]) -> Iterator[Lab]:
    """Open a notebook in a JupyterLab, which ends with the context.

    Parameters
    ----------
    browser
        Shows it.
    path
        The notebook's file. JupyterLab has its folder, and settings of its own.
    variables
        Environment variables of the server and its kernels.
    """
    token = secrets.token_hex(16)
    with _serving(path.parent, token, variables) as url:
        browser.driver.get(f"{url}/tree/{path.name}?token={token}&reset")
        browser.wait(lambda: browser.run(_OPENED), "the notebook does not open")
        yield Lab(browser, path)
        # Or it asks whether to leave.
        browser.driver.get("about:blank")


@contextlib.contextmanager
def _serving(folder: Path, token: str, variables: dict[str, str]) -> Iterator[str]:
    own = folder / "jupyter"
    settings = own / "settings" / _NOTEBOOK_SETTINGS
    settings.parent.mkdir(parents=True)
    # Cells that are out of sight are on the page as well, with their outputs.
    settings.write_text(json.dumps({"windowingMode": "none"}))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip", "127.0.0.1", "--port", "0"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}", "--allow-root"]
    command += ["--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None"]
    command += [f"{_UPDATES}NeverCheckForUpdate", "--LabApp.extension_manager=readonly"]
    directories = {
        "JUPYTER_CONFIG_DIR": own / "config",
        "JUPYTER_RUNTIME_DIR": own / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": own / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": own / "workspaces",
    }
    environment = {**os.environ, **variables, **{name: str(path) for name, path in directories.items()}}
    log = folder / "jupyter" / "log"
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield _url(server, log)
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _url(server: Any, log: Path) -> str:
    def found() -> Any:
        assert server.poll() is None, log.read_text()
        return re.search(r"http://127\.0\.0\.1:\d+/lab", log.read_text())

    deadline = time.monotonic() + _START_TIMEOUT_S
    while not (match := found()):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return str(match.group())

"""A stock Firefox that tests drive over Marionette, the protocol that each one speaks.

Playwright drives only a Firefox of its own make.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 60
SCRIPT_SECONDS = 30

PREFERENCES = {
    "app.update.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.download.folderList": 2,  # the folder named in browser.download.dir
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.events.testing.asyncClipboard": True,  # scripts may read what was copied
    "extensions.systemAddon.update.enabled": False,
    "layout.css.prefers-color-scheme.content-override": 1,  # light; 0 is dark
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.enabled": False,
}

KEYS = {
    "Enter": "\ue007",
    "Escape": "\ue00c",
    "ArrowLeft": "\ue012",
    "ArrowUp": "\ue013",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
    "End": "\ue010",
}


def import_marionette() -> Any:
    """Return the module that drives, or skip where it is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of `distro`, it imports
        return pytest.importorskip(
            "marionette_driver",
            reason="no marionette_driver: pip install arena-ckpt[test]",
        )


def find_firefox() -> str:
    """Return the path of a Firefox, or skip where there is none."""
    named = os.environ.get("FIREFOX")
    path = named or shutil.which("firefox-esr") or shutil.which("firefox")
    if path is None:
        pytest.skip("no Firefox: apt-get install firefox-esr, or set FIREFOX=/its/path")
    return path


@dataclass
class Firefox:
    """A Firefox with one window.

    Attributes
    ----------
    marionette : marionette_driver.marionette.Marionette
    downloads : Path
        Folder that files are saved to.
    """

    marionette: Any
    downloads: Path

    def open(self, address: str, width: int = 1440, height: int = 1000) -> None:
        """Open a page in a window whose content is that large, and wait until drawn."""
        self.in_chrome("Services.console.reset();")
        self.marionette.navigate("about:blank")
        self.resize(width, height)
        self.marionette.navigate(address)
        self.js("await arenaViewer")
        self.settle()

    def resize(self, width: int, height: int) -> None:
        """Give the content of the window a size, as near as the window can be made."""
        for _ in range(2):  # the frame around it is known after the first
            inner = self.js("return [innerWidth, innerHeight]", app=False)
            outer = self.marionette.window_rect
            self.marionette.set_window_rect(
                width=outer["width"] + width - inner[0],
                height=outer["height"] + height - inner[1],
            )

    def js(self, script: str, *arguments: object, app: bool = True) -> Any:
        """Run a script in the page, with its `app` and `$` at hand.

        Parameters
        ----------
        script : str
            Body of an async function; its arguments are in ``args``.
        app : bool
            The page is a viewer that can be read.
        """
        head = "const app = await arenaViewer;" if app else ""
        outcome = self.marionette.execute_async_script(
            f"""const [finish] = [...arguments].slice(-1);
            const args = [...arguments].slice(0, -1);
            const $ = (id) => document.getElementById(id);
            (async () => {{ {head} {script} }})().then(
              (value) => finish({{ value: value === undefined ? null : value }}),
              (error) => finish({{ error: String(error) + error.stack }}),
            );""",
            script_args=arguments,
            sandbox=None,  # that of the page itself: its objects can be reached
            script_timeout=SCRIPT_SECONDS * 1000,
        )
        assert "error" not in outcome, outcome["error"]
        return outcome["value"]

    def in_chrome(self, script: str, *arguments: object) -> Any:
        """Run a script that has the rights of the browser itself."""
        with self.marionette.using_context("chrome"):
            return self.marionette.execute_script(script, script_args=arguments)

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        frame = "(r) => setTimeout(() => requestAnimationFrame(r), 20)"
        self.js(f"await new Promise({frame})", app=False)

    def complaints(self) -> list[str]:
        """Return the errors and warnings that the page caused since it was opened."""
        messages = self.in_chrome(
            """return Services.console.getMessageArray().flatMap((message) => {
              if (!(message instanceof Ci.nsIScriptError)) return [];
              const { sourceName, errorMessage, lineNumber } = message;
              const isOurs = /^(file|https?:\\/\\/127)/.test(sourceName);
              return isOurs ? [`${errorMessage} (line ${lineNumber})`] : [];
            })"""
        )
        return [str(message) for message in messages]

    def find(self, selector: str) -> Any:
        """Return an element of the page."""
        return self.marionette.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        """Click an element as a person would, and wait until drawn."""
        self.find(selector).click()
        self.settle()

    def text(self, selector: str) -> str:
        """Return the text of an element as it is seen."""
        return str(self.find(selector).text)

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements that fit."""
        found = self.marionette.find_elements("css selector", selector)
        return [str(element.text) for element in found]

    def type(self, selector: str, text: str) -> None:
        """Replace what is in a field."""
        field = self.find(selector)
        field.clear()
        field.send_keys(text)
        self.settle()

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        for key in keys:
            code = KEYS.get(key, key)
            self.marionette.actions.sequence("key", "keyboard").key_down(code).key_up(
                code
            ).perform()
        self.settle()

    def point(self, x: float, y: float, *, click: bool = False) -> None:
        """Move the pointer to a place in the window, and click there if asked to."""
        pointer = self.marionette.actions.sequence(
            "pointer", "mouse", {"pointerType": "mouse"}
        )
        pointer.pointer_move(round(x), round(y))
        if click:
            pointer.pointer_down(0).pointer_up(0)
        pointer.perform()
        self.settle()

    def set_scheme(self, scheme: str) -> None:
        """Let the system be light or dark."""
        self.in_chrome(
            "Services.prefs.setIntPref("
            "'layout.css.prefers-color-scheme.content-override', arguments[0])",
            int(scheme == "light"),
        )

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        path.write_bytes(self.marionette.screenshot(format="binary", full=False))

    def downloaded(self, name: str) -> bytes:
        """Return a file that is being saved, as soon as it is whole."""
        path = self.downloads / name
        for _ in range(200):
            if (
                path.exists()
                and path.stat().st_size
                and not list(self.downloads.glob("*.part"))
            ):
                return path.read_bytes()
            time.sleep(0.05)
        raise AssertionError(f"{name} was not saved: {os.listdir(self.downloads)}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until something listens; the driver leaves sockets open where it waits."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, f"Firefox ended with {process.returncode}"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"Firefox did not listen within {START_SECONDS} s")


def _preference_line(name: str, value: bool | int | str) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return f'user_pref("{name}", {text});\n'


@contextmanager
def running_firefox(folder: Path) -> Iterator[Firefox]:
    """Start a Firefox without a screen, and end it.

    Parameters
    ----------
    folder : Path
        For its profile and what it saves.
    """
    driver = import_marionette()
    program = find_firefox()
    profile, downloads = folder / "profile", folder / "downloads"
    profile.mkdir()
    downloads.mkdir()
    port = _free_port()
    preferences: dict[str, bool | int | str] = {
        **PREFERENCES,
        "marionette.port": port,
        "browser.download.dir": str(downloads),
    }
    lines = (_preference_line(name, value) for name, value in preferences.items())
    (profile / "user.js").write_text("".join(lines))
    process = subprocess.Popen(
        [
            program,
            "--headless",
            "--marionette",
            "--remote-allow-system-access",  # reads the console of the page
            "--no-remote",
            "--profile",
            str(profile),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MOZ_HEADLESS": "1", "HOME": str(folder)},
    )
    try:
        _wait_for(port, process)
        marionette = driver.marionette.Marionette(
            host="127.0.0.1", port=port, startup_timeout=START_SECONDS
        )
        marionette.start_session()
        yield Firefox(marionette, downloads)
        marionette.delete_session()
    finally:
        process.terminate()
        process.wait(30)

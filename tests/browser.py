"""Headless Chromium over its pipe, with the standard library: what a page logs, requests and shows."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 60.0


class Browser:
    """One tab; use it as a context manager."""

    def __init__(self, folder, width=1280, height=900):
        if CHROMIUM is None:
            pytest.skip("no Chromium is here: the page is not opened")
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        command = [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}", f"--window-size={width},{height}",
            "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        script = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command], pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._number, self.events = b"", 0, []
        target = self._call("Target.getTargets", session=None)["targetInfos"]
        page = next(one for one in target if one["type"] == "page")
        self._session = None
        self._session = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def call(self, method, **parameters):
        return self._call(method, session=self._session, **parameters)

    def _call(self, method, session=None, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _next(self):
        while b"\0" not in self._buffer:
            assert select.select([self._from], [], [], PATIENCE)[0], "the browser does not answer"
            part = os.read(self._from, 1 << 20)
            assert part, "the browser has gone"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def resize(self, width, height=900, *, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, path: Path, fragment=""):
        """Load a page; seconds until its load event."""
        self._navigate("about:blank")
        return self._navigate(path.resolve().as_uri() + fragment)

    def _navigate(self, address):
        start = time.perf_counter()
        self.events.clear()
        self.call("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())
        return time.perf_counter() - start

    def run(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def complaints(self):
        """Errors and warnings that the page caused so far."""
        self.run("1")
        bad = [event["params"] for event in self.events if event.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled")]
        return bad + [
            event["params"]["entry"]
            for event in self.events
            if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning")
        ]

    def requests(self):
        """Addresses that were asked for, without data URLs."""
        asked = [event["params"]["request"]["url"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith("data:")]

    def picture(self, path: Path, selector=""):
        """A screenshot of an element (or of the whole page)."""
        script = f"""(function () {{
            var e = {json.dumps(selector)} ? document.querySelector({json.dumps(selector)}) : document.documentElement;
            var r = e.getBoundingClientRect();
            return [r.left + scrollX, r.top + scrollY, Math.max(r.width, 10), Math.max(r.height, 10)];
        }})()"""
        x, y, width, height = self.run(script)
        clip = {"x": max(x, 0), "y": y, "width": width, "height": min(height, 12000), "scale": 1}
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

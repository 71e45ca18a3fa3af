"""A headless Chromium (Debian's package), driven over its own protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
STARTS_S = 60.0  # on a slow machine


class Page:
    """One page; `run` evaluates JavaScript in it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse):
        self._socket, self._number = socket, 0

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json(timeout=STARTS_S)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    async def run(self, program: str) -> Any:
        answer = await self._call("Runtime.evaluate", expression=program, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def wait_for(self, condition: str) -> Any:
        """The first value of `condition` that is true; before the page is there, it may fail."""
        for _ in range(300):
            if value := await self.run(f"(() => {{ try {{ return {condition}; }} catch {{ return null; }} }})()"):
                return value
            await asyncio.sleep(0.1)
        raise AssertionError(f"{condition} did not come true")

    async def drag(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        for kind, (x, y) in (("mousePressed", begin), ("mouseMoved", end), ("mouseReleased", end)):
            await self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    async def screenshot(self) -> bytes:
        return base64.b64decode((await self._call("Page.captureScreenshot"))["data"])


@contextlib.asynccontextmanager
async def page(address: str) -> AsyncIterator[Page]:
    """Chromium with `address` open."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        options += ["--remote-debugging-port=0", f"--user-data-dir={profile}", "--window-size=1000,900", address]
        browser = subprocess.Popen([CHROMIUM, *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            assert browser.stderr is not None
            port = None
            for text in browser.stderr:
                if found := re.search(r"DevTools listening on ws://127.0.0.1:(\d+)/", text):
                    port = found[1]
                    break
            async with aiohttp.ClientSession() as session:
                target = None
                for _ in range(int(STARTS_S * 10)):
                    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                        targets = await answer.json()
                    target = next((t for t in targets if t["type"] == "page" and t["url"].startswith("http")), None)
                    if target:
                        break
                    await asyncio.sleep(0.1)
                assert target is not None
                async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    yield Page(socket)
        finally:
            browser.kill()
            browser.wait()

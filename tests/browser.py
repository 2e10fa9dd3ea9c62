"""A headless Chromium, driven by its DevTools protocol over aiohttp's websockets: no further package is needed."""

import asyncio
import itertools
import json
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.harness import DEADLINE_S

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

DESKTOP = (1280, 900)
PHONE = (390, 844)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    "--remote-debugging-port=0",
)
#: Their code, for the keys that write no text.
_KEYS = {"Enter": ("\r", 13), "Tab": ("", 9), "ArrowRight": ("", 39), "ArrowLeft": ("", 37)}


@dataclass
class Page:
    """One tab. `complaints` has what the browser refused or could not run: exceptions, policy violations, dialogs."""

    socket: aiohttp.ClientWebSocketResponse
    complaints: list[str] = field(default_factory=list)
    loads: int = 0
    _answers: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def listen(self) -> None:
        async for message in self.socket:
            said = json.loads(message.data)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
                continue
            parameters = said["params"]
            match said["method"]:
                case "Page.loadEventFired":
                    self.loads += 1
                case "Runtime.exceptionThrown":
                    self.complaints.append(json.dumps(parameters["exceptionDetails"]))
                case "Log.entryAdded" if "404" not in parameters["entry"]["text"]:
                    self.complaints.append(parameters["entry"]["text"])
                case "Page.javascriptDialogOpening":
                    self.complaints.append(f"dialog: {parameters['message']}")

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        said = await asyncio.wait_for(answer, DEADLINE_S)
        assert "error" not in said, said
        found: dict[str, Any] = said["result"]
        return found

    async def open(self, url: str) -> None:
        before = self.loads
        await self.send("Page.navigate", url=url)
        await self.loaded(before)

    async def loaded(self, before: int) -> None:
        """Waits for the load after so many."""
        end = time.monotonic() + DEADLINE_S
        while self.loads <= before:
            assert time.monotonic() < end, "the page did not load"
            await asyncio.sleep(0.01)

    async def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        said = await self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def until(self, script: str) -> Any:
        """The value of an expression, as soon as it is true."""
        end = time.monotonic() + DEADLINE_S
        while not (value := await self.run(script)):
            assert time.monotonic() < end, f"{script}\n{await self.text()}"
            await asyncio.sleep(0.05)
        return value

    async def text(self) -> str:
        return str(await self.run("document.body.innerText"))

    async def click(self, selector: str, *, loads: bool = False) -> None:
        """Clicks where an element is seen, as a hand would; on the first line of one that is broken into several."""
        before = self.loads
        place = await self.run(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)}); "
            "found.scrollIntoView({block: 'center'}); const box = found.getClientRects()[0]; "
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            where = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
            await self.send("Input.dispatchMouseEvent", type=kind, **where)
        if loads:
            await self.loaded(before)

    async def press(self, key: str, *, loads: bool = False) -> None:
        before = self.loads
        text, code = _KEYS.get(key, (key, 0))
        for kind in ("keyDown", "keyUp"):
            said = {"key": key, "windowsVirtualKeyCode": code, **({"text": text} if kind == "keyDown" and text else {})}
            await self.send("Input.dispatchKeyEvent", type=kind, **said)
        if loads:
            await self.loaded(before)

    async def write(self, text: str) -> None:
        await self.send("Input.insertText", text=text)

    async def picture(self, path: Path) -> None:
        """A picture of the whole page."""
        height = await self.run("document.documentElement.scrollHeight")
        width = await self.run("innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 3000), "scale": 1}
        said = await self.send("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        await asyncio.to_thread(path.write_bytes, b64decode(said["data"]))


@dataclass
class Browser:
    """A running Chromium."""

    port: int

    @asynccontextmanager
    async def page(self, size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> AsyncIterator[Page]:
        """A tab of that size."""
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.port}/") as session:
            async with session.put("/json/new?about:blank") as answer:
                target = await answer.json(content_type=None)
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await page.send(f"{domain}.enable")
                width, height = size
                phone = size == PHONE
                scale = {"deviceScaleFactor": 1, "mobile": phone}
                await page.send("Emulation.setDeviceMetricsOverride", width=width, height=height, **scale)
                scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
                await page.send("Emulation.setEmulatedMedia", features=[scheme])
                try:
                    yield page
                finally:
                    await page.send("Page.close")
                    listening.cancel()


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A Chromium with a profile of its own."""
    assert CHROMIUM is not None
    with (profile.parent / "chromium.log").open("wb") as log:
        process = subprocess.Popen([CHROMIUM, *_FLAGS, f"--user-data-dir={profile}"], stdout=log, stderr=log)
    try:
        said, end = profile / "DevToolsActivePort", time.monotonic() + DEADLINE_S
        while not (said.exists() and "\n" in said.read_text()):
            assert time.monotonic() < end, (profile.parent / "chromium.log").read_text()
            assert process.poll() is None, (profile.parent / "chromium.log").read_text()
            time.sleep(0.02)
        yield Browser(int(said.read_text().splitlines()[0]))
    finally:
        process.kill()
        process.wait()

"""A headless Chromium, driven by chromedriver over WebDriver's HTTP, and what a page's tests do with it."""

import base64
import json
import re
import subprocess
import time
import urllib.request
from pathlib import Path

ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--window-size=1120,1000",
]


class Browser:
    def __init__(self):
        self.process = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        self.address = None
        for line in self.process.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                self.address = f"http://127.0.0.1:{found[1]}"
                break
        assert self.address, "chromedriver does not start: run scripts/setup"
        wanted = {"goog:chromeOptions": {"args": ARGUMENTS}, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.address += f"/session/{session['sessionId']}"

    def ask(self, method: str, path: str, body: dict | None = None):
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(
            self.address + path, data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def close(self):
        try:
            self.ask("DELETE", "")
        finally:
            self.process.terminate()
            self.process.wait(10)

    def go(self, address: str):
        self.ask("POST", "/url", {"url": address})

    def run(self, script: str, *arguments):
        return self.ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def value(self, expression: str):
        return self.run(f"return {expression}")

    def wait(self, expression: str, timeout=60):
        """The expression's value once it is true."""
        end = time.monotonic() + timeout
        while not (value := self.value(expression)):
            assert time.monotonic() < end, (
                f"never: {expression}; the page says: {self.text('#status')} {self.text('#error')}"
            )
            time.sleep(0.03)
        return value

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def set(self, selector: str, value):
        """Types a value, as far as the page can tell."""
        self.run(
            "const field = document.querySelector(arguments[0]); field.value = arguments[1];"
            "for (const name of ['input', 'change']) field.dispatchEvent(new Event(name));",
            selector,
            str(value),
        )

    def element(self, selector: str) -> str:
        (reference,) = self.ask("POST", "/element", {"using": "css selector", "value": selector}).values()
        return reference

    def click(self, selector: str):
        """A true click: what is hidden or covered cannot be clicked."""
        self.ask("POST", f"/element/{self.element(selector)}/click")

    def type(self, selector: str, text: str):
        self.ask("POST", f"/element/{self.element(selector)}/value", {"text": text})

    def devtools(self, command: str, **parameters):
        return self.ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def messages(self) -> list[str]:
        """What the console had to say since the last call."""
        return [
            entry["message"]
            for entry in self.ask("POST", "/se/log", {"type": "browser"})
            if entry["level"] == "SEVERE"
        ]

    def screenshot(self, path: Path):
        path.write_bytes(base64.b64decode(self.ask("GET", "/screenshot")))

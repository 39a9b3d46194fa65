"""The chat page in a browser, with what a person does on it."""

import json
import time

from selenium.webdriver.common.keys import Keys

from tests.serving.fake_api import wait_for


class ChatPage:
    """The page of a server in a window."""

    def __init__(self, window, url: str) -> None:
        self.window, self.url = window, url.rstrip("/")

    def open(self, ready: bool = True) -> "ChatPage":
        """Loads the page with an empty storage."""
        self.window.get(f"{self.url}/page/logo.svg")
        self.window.execute_script("localStorage.clear(); sessionStorage.clear()")
        self.log = []
        self.drain()
        self.log = []
        self.window.get(self.url)
        if ready:
            self.wait_for_models()
        return self

    def wait_for_models(self) -> None:
        wait_for(lambda: self.script("return document.getElementById('model').options.length"))

    def script(self, code: str, *arguments):
        return self.window.execute_script(code, *arguments)

    def find(self, selector: str):
        return self.window.find_element("css selector", selector)

    def find_all(self, selector: str):
        return self.window.find_elements("css selector", selector)

    def click(self, label: str, last: bool = True) -> None:
        """Clicks a button by its name, shown or for screen readers."""
        code = """
        const found = [...document.querySelectorAll("button")].filter((button) =>
            button.checkVisibility({visibilityProperty: true}) && !button.disabled &&
            [button.getAttribute("aria-label"), button.textContent].includes(arguments[0]));
        const chosen = found.at(arguments[1] ? -1 : 0);
        chosen?.click();
        return !!chosen;
        """
        wait_for(lambda: self.script(code, label, last))

    def type(self, text: str) -> None:
        """Types where the focus is."""
        self.window.switch_to.active_element.send_keys(text)

    def ask(self, text: str) -> None:
        self.find("#prompt").send_keys(text + Keys.ENTER)

    def answers(self) -> list[str]:
        return self.script(
            "return [...document.querySelectorAll('.answer .body')].map(b => b.innerText)"
        )

    def answer(self) -> str:
        """The last answer, once it is complete."""
        wait_for(
            lambda: self.script("return document.querySelector('.answer:last-child .actions')")
        )
        return self.answers()[-1]

    def titles(self) -> list[str]:
        """Of the chats in the list."""
        return self.script(
            "return [...document.querySelectorAll('#chats a')].map(a => a.textContent)"
        )

    def drain(self) -> None:
        """Keeps what the browser has logged: each entry can be read once."""
        for entry in self.window.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            self.log.append((message["method"], message["params"]))
        for entry in self.window.get_log("browser"):
            self.log.append(("console", entry))

    def requested(self) -> list[str]:
        """Every address that the browser has asked for."""
        time.sleep(0.2)
        self.drain()
        sent = [
            p["request"]["url"] for method, p in self.log if method == "Network.requestWillBeSent"
        ]
        return [url for url in sent if not url.startswith("data:")]

    def complaints(self) -> list[str]:
        """Errors of the console: scripts, and what the content security policy refused."""
        self.drain()
        entries = [entry for method, entry in self.log if method == "console"]
        return [e["message"] for e in entries if e["level"] == "SEVERE"]

    def scheme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def size(self, width: int, height: int) -> None:
        sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)

"""A browser to be driven: the few words of the WebDriver protocol that the tests say.

Talks to chromedriver, with Python's own library only. Knows no page of ours.
"""

import base64
import json
import shutil
import subprocess
import time
import urllib.request

CHROMIUM = ["/usr/lib/chromium/chromium", "/usr/bin/chromium", "/usr/bin/google-chrome"]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
QUIET = [
    "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1100,1500",
]
# Chromium's software GPU, which a page must ask for by name.
SWIFTSHADER = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
NO_WEBGPU = ["--disable-features=WebGPU", "--disable-blink-features=WebGPU"]


class Driver:
    """A running chromedriver."""

    def __init__(self, port=9517):
        program = shutil.which("chromedriver")
        if program is None:
            raise SystemExit("chromedriver: not found; on Debian it is in the package chromium-driver")
        self.at = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([program, f"--port={port}", "--log-level=SEVERE"], stdout=subprocess.DEVNULL)
        for _ in range(100):
            try:
                call(self.at, "GET", "/status")
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit("chromedriver does not answer")

    def open(self, flags, downloads):
        """A new browser that saves files in the folder `downloads`."""
        options = {
            "binary": next(path for path in CHROMIUM if shutil.which(path)),
            "args": QUIET + flags,
            "prefs": {"download.default_directory": str(downloads), "download.prompt_for_download": False},
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        made = call(self.at, "POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        return Browser(f"{self.at}/session/{made['sessionId']}")

    def close(self):
        self.process.terminate()
        self.process.wait(10)


class Browser:
    """A window of a browser."""

    def __init__(self, at):
        self.at = at

    def say(self, method, path, body=None):
        return call(self.at, method, path, body)

    def go(self, url):
        self.say("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """What the body of a function returns in the page."""
        return self.say("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, selector):
        return self.say("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", {ELEMENT: element})
        self.say("POST", f"/element/{element}/click", {})

    def type(self, selector, text):
        self.say("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0])?.textContent.trim() ?? ''", selector)

    def data(self, selector, name):
        """A number that the page keeps in a data attribute."""
        found = self.run("return document.querySelector(arguments[0])?.dataset[arguments[1]] ?? ''", selector, name)
        return float(found) if found else None

    def wait(self, what, condition, seconds=60):
        """Waits until `condition` gives something true, and returns it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = condition()
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"{what}: not within {seconds} s; the page says {self.text('#status')!r} {self.text('#notice')!r}")

    def draw(self, selector, points):
        """Draws a line through `points`, parts of the element's width and height, with the pen down."""
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", {ELEMENT: element})
        box = self.run("const b = arguments[0].getBoundingClientRect(); return [b.left, b.top, b.width, b.height]", {ELEMENT: element})
        place = lambda p: {"x": round(box[0] + p[0] * box[2]), "y": round(box[1] + p[1] * box[3])}
        moves = [{"type": "pointerMove", "duration": 20, **place(p)} for p in points]
        steps = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:], {"type": "pointerUp", "button": 0}]
        pointer = {"type": "pointer", "id": "pen", "parameters": {"pointerType": "mouse"}, "actions": steps}
        self.say("POST", "/actions", {"actions": [pointer]})

    def log(self, kind):
        """What the browser noted since the last call: `browser` is the console, `performance` the network."""
        return self.say("POST", "/se/log", {"type": kind})

    def requests(self):
        """The addresses that were asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("blob:", "data:"))]

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.say("GET", "/screenshot")))

    def close(self):
        self.say("DELETE", "")


def call(at, method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(at + path, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        value = json.load(error)["value"]
        raise AssertionError(f"{path}: {value['error']}: {value['message'].splitlines()[0]}") from None

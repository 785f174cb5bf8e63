"""Clicks through the site in a real Chromium, as a visitor would.

    python3 examples/web/tests/browser.py PROGRAM SITE ARTIFACTS [NAME ...]

PROGRAM is the built wgrad-web, SITE the folder it made, ARTIFACTS where screenshots go; NAMEs run
only those tests. The GPU is Chromium's software one, so times are those of a slow machine.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

from webdriver import NO_WEBGPU, SWIFTSHADER, Driver

PORT = 8517
SITE = f"http://127.0.0.1:{PORT}"
OTHER = f"http://127.0.0.1:{PORT + 1}"
TESTS = []
# Times are printed to be read; a test fails only where something is wrong, not where a machine is busy.
SLOW = 4


def test(*flags):
    """A test, and the flags of the browser it runs in."""
    def note(function):
        TESTS.append((function, list(flags)))
        return function
    return note


def ready(browser, page):
    browser.go(f"{SITE}/{page}")
    browser.wait("ready", lambda: browser.text("#status") == "ready", 30)
    browser.requests()


def losses(browser):
    return browser.run("return wgradPage.losses")


def accuracy(browser):
    text = browser.text("#accuracy")
    return float(text) if text[:1].isdigit() else 0.0


def close_to(got, want, part):
    return abs(got - want) <= part * abs(want)


def quiet(browser):
    """Nothing in the console, and nothing asked for since the page was ready."""
    console = [entry for entry in browser.log("browser") if entry["level"] in ("WARNING", "SEVERE")]
    # Chromium's own remark when a page asks for a GPU and there is none.
    console = [entry for entry in console if not entry["message"].endswith("No available adapters.")]
    assert not console, f"the console says {console}"
    sent = browser.requests()
    assert not sent, f"the page asked for {sent} after it was ready"


def before_calls(browser, script):
    """Has `script` look at each `message` to the worker before it is sent; it may `send` others, or `answer` itself."""
    browser.run("""
        const post = (window.post ??= Worker.prototype.postMessage);
        const script = new Function('message', 'send', 'answer', arguments[0]);
        Worker.prototype.postMessage = function (message) {
          let answered = false;
          const send = (call) => post.call(this, { id: -1, call });
          const answer = (data) => { answered = true; this.onmessage({ data: { id: message.id, ...data } }); };
          script(message, send, answer);
          if (!answered) post.call(this, message);
        };""", script)


def same_numbers(browser, reference):
    """What every device has in common, and the losses of the first ten steps."""
    browser.run("document.querySelector('#more').open = true")
    browser.wait("fingerprints", lambda: len(browser.text("#fingerprints")) > 9)
    found = json.loads(browser.run("return JSON.stringify(document.querySelector('#fingerprints').dataset)"))
    for name in ("bits", "uniforms", "weights"):
        assert found[name] == reference[name], f"{name}: {found[name]} here, {reference[name]} natively"
    first = browser.wait("ten losses", lambda: len(losses(browser)) >= 10 and losses(browser)[:10])
    for (step, got), want in zip(first, reference["losses"]):
        assert close_to(got, want, 1e-4), f"step {step}: loss {got} here, {want} natively"


def trains_smoothly(browser, tools):
    """Trains the digits beyond 0.9 as a native run would; whether the page answered all the while."""
    ready(browser, "digits.html?device=gpu")
    assert browser.run("return document.querySelector('#device-name').dataset.kind") == "gpu"
    interactive = browser.data("#timing", "interactive")
    assert interactive < 2000 * SLOW, f"interactive after {interactive} ms"
    browser.click("#train")
    same_numbers(browser, tools.reference)
    first = browser.data("#timing", "firstStep")
    assert first < 3000 * SLOW, f"the first step was done {first} ms after Train"
    browser.wait("accuracy over 0.9", lambda: accuracy(browser) > 0.9, 240)
    browser.screenshot(tools.artifacts / "digits-training.png")
    browser.click("#train")
    browser.wait("a pause", lambda: browser.text("#status") in ("paused", "done"))
    longest = browser.data("#frames", "longest")
    print(f"    interactive {interactive:.0f} ms, first step {first:.0f} ms, longest frame {longest:.0f} ms, "
          f"{browser.text('#speed')} steps/s, accuracy {browser.text('#accuracy')} at step {browser.text('#step')}")
    return longest <= 100 * SLOW


@test(*SWIFTSHADER)
def digits_on_the_gpu(browser, tools):
    """Trains, reads a drawing, saves, and loads what was saved; the numbers are those of a native run."""
    # One long frame may be the machine's; one on each of three pages is ours.
    if not any(trains_smoothly(browser, tools) for _ in range(3)):
        raise AssertionError("each of three pages had a frame that took too long")

    one = [(0.5, 0.12 + 0.76 * k / 8) for k in range(9)]
    browser.draw("#pad", one)
    browser.wait("a 1 is read", lambda: browser.text("#guess") == "1", 20)
    browser.screenshot(tools.artifacts / "digits-drawn.png")
    browser.click("#clear")
    turn = [(0.5 + 0.24 * x, 0.5 - 0.36 * y) for x, y in CIRCLE]
    browser.draw("#pad", turn)
    browser.wait("a 0 is read", lambda: browser.text("#guess") == "0", 20)
    long_strokes(browser)

    before = browser.text("#accuracy") if browser.text("#status") == "done" else None
    saved = tools.downloads / "digits.safetensors"
    saved.unlink(missing_ok=True)
    browser.click("#save")
    browser.wait("the file", lambda: saved.exists() and saved.stat().st_size > 200_000)
    quiet(browser)
    native = tools.program("--check", saved)
    ready(browser, "digits.html?device=gpu")
    browser.type("#load", str(saved))
    browser.wait("the loaded weights", lambda: accuracy(browser) > 0.9)
    assert close_to(accuracy(browser), float(native), 1e-3), f"{accuracy(browser)} here, {native} natively"
    assert before is None or before == browser.text("#accuracy")
    quiet(browser)


def long_strokes(browser):
    """A slow hand leaves few points, and a stroke of very many is read as well."""
    points = browser.run("""
        const canvas = document.createElement('canvas');
        canvas.style = 'position: fixed; inset: 0; inline-size: 200px; block-size: 200px';
        canvas.setPointerCapture = () => {};
        document.body.append(canvas);
        return import('./pad.js').then(({ pad }) => {
          const drawing = pad(canvas, { changed() {}, told() {} });
          const send = (name, x) => canvas.dispatchEvent(new PointerEvent(name, { clientX: x, clientY: 100 }));
          send('pointerdown', 0);
          for (let x = 0; x <= 200; x += 0.05) send('pointermove', x);
          canvas.remove();
          return drawing.strokes[0].length;
        });""")
    assert 50 < points <= 101, f"{points} points of a line"
    inked = browser.run("""
        return import('./shape.js').then(({ digitise }) => {
          const long = Array.from({ length: 200000 }, (_, at) => [0.5, at / 200000]);
          return [[long], [[[0.5, 0], [0.5, 1]]]].map((strokes) => [...digitise(strokes)].join());
        });""")
    assert inked[0] == inked[1], inked


@test(*NO_WEBGPU)
def digits_without_webgpu(browser, tools):
    """A browser without WebGPU trains on the CPU, and says so; the numbers are the same."""
    ready(browser, "digits.html")
    assert browser.run("return document.querySelector('#device-name').dataset.kind") == "cpu"
    browser.click("#train")
    same_numbers(browser, tools.reference)
    browser.wait("accuracy over 0.9", lambda: accuracy(browser) > 0.9, 240)
    assert browser.text("#device-why").startswith("no GPU through WebGPU: "), browser.text("#device-why")
    print(f"    {browser.text('#speed')} steps/s: {browser.text('#device-why')}")
    browser.screenshot(tools.artifacts / "digits-cpu.png")
    quiet(browser)


@test(*SWIFTSHADER)
def a_lost_gpu(browser, tools):
    """The GPU is destroyed in the middle; training goes on from the last snapshot and says so."""
    ready(browser, "digits.html?device=gpu")
    browser.click("#train")
    browser.wait("60 steps", lambda: int(browser.text("#step")) >= 60, 120)
    browser.run("document.querySelector('#plug').closest('details').open = true")
    browser.click("#plug")
    said = browser.wait("a notice", lambda: browser.text("#notice"), 30)
    assert "from step" in said, said
    print(f"    {said}")
    browser.screenshot(tools.artifacts / "digits-recovered.png")
    browser.wait("accuracy over 0.9", lambda: accuracy(browser) > 0.9, 240)
    quiet(browser)


@test(*SWIFTSHADER)
def weights_go_on(browser, tools):
    """A GPU lost while test images are read, weights loaded after the end, and lost before the first step."""
    ready(browser, "digits.html?device=gpu&epochs=1")
    before_calls(browser, "if (message.call === 'evaluate' && !window.lost) { window.lost = true; send('loseDevice'); }")
    browser.click("#train")
    browser.wait("a recovery", lambda: "from step 0" in browser.text("#notice"), 60)
    browser.wait("the end", lambda: browser.text("#status") == "done", 60)
    assert len(losses(browser)) == 23 and accuracy(browser) > 0.3, browser.text("#accuracy")
    first = losses(browser)[0][1]
    saved = tools.downloads / "digits.safetensors"
    saved.unlink(missing_ok=True)
    browser.click("#save")
    browser.wait("the file", lambda: saved.exists() and saved.stat().st_size > 200_000)

    browser.type("#load", str(saved))
    browser.wait("the loaded weights", lambda: browser.text("#status") == "ready")
    assert browser.text("#step") == "0" and not losses(browser), browser.text("#step")
    browser.run("document.querySelector('#more').open = true")
    browser.click("#plug")
    browser.wait("a notice", lambda: "The GPU is gone" in browser.text("#notice"))
    browser.click("#train")
    browser.wait("a recovery", lambda: "from step 0" in browser.text("#notice"), 30)
    again = browser.wait("a loss", lambda: losses(browser))[0][1]
    assert again < 0.7 * first, f"a loss of {again} with what was loaded, {first} at first"
    browser.wait("the end", lambda: browser.text("#status") == "done", 60)
    browser.click("#plug")
    browser.wait("a way on", lambda: browser.run("return !document.querySelector('#train').disabled"))
    browser.click("#train")
    browser.wait("a recovery", lambda: "from step 0" in browser.text("#notice"), 30)

    # In the middle of a step, and of losses on their way.
    browser.click("#reset")
    browser.wait("a fresh session", lambda: browser.text("#status") == "ready", 30)
    assert not browser.text("#file-note") and not browser.text("#notice")
    before_calls(browser, """
        const [liveBytes, peakBytes, pooledBytes, epoch, losses] = [1, 1, 1, 1, []];
        const report = (step) => ({ value: { step, epoch, losses, done: step > 3, liveBytes, peakBytes, pooledBytes }, took: 500 });
        if (message.call === 'step') answer(report(window.faked = (window.faked ?? 0) + 1));
        if (message.call === 'flush') answer(report(window.faked));""")
    browser.click("#train")
    browser.wait("the end", lambda: browser.text("#status") == "done", 30)
    assert browser.text("#speed") == "2.00", "steps are timed where they run"
    quiet(browser)


@test(*SWIFTSHADER)
def memory_stays_flat(browser, tools):
    """Two thousand steps hold as many bytes as a hundred do."""
    ready(browser, "digits.html?device=gpu&batch=16&epochs=30")
    browser.click("#train")
    seen = []
    for steps in (200, 1000, 2000):
        browser.wait(f"{steps} steps", lambda: int(browser.text("#step")) >= steps, 600)
        seen.append([browser.data("#memory", name) for name in ("live", "peak", "pooled")])
    print(f"    bytes live, peak and pooled after 200, 1,000 and 2,000 steps: {seen}")
    # Losses on their way and a batch more or less: nothing that grows.
    slack = 64 * 1024
    assert all(now <= then + slack for now, then in zip(seen[2], seen[0])), seen
    quiet(browser)


@test(*SWIFTSHADER)
def gpt_on_the_gpu(browser, tools):
    """Learns a text; samples appear, and it goes on from a prompt."""
    ready(browser, "gpt.html?device=gpu")
    browser.click("#train")
    browser.wait("60 losses", lambda: len(losses(browser)) >= 60, 240)
    browser.click("#train")
    browser.wait("a pause", lambda: browser.text("#status") == "paused")
    found = [loss for _, loss in losses(browser)]
    assert sum(found[-5:]) / 5 < 0.7 * found[0], found
    assert browser.run("return document.querySelector('#samples').children.length") > 0
    browser.click("#generate")
    browser.wait("text", lambda: len(browser.text("#output")) > 20)
    print(f"    loss {found[0]:.2f} to {found[-1]:.2f} in {len(found)} steps, {browser.text('#speed')} steps/s")
    browser.screenshot(tools.artifacts / "gpt.png")
    quiet(browser)


@test(*NO_WEBGPU)
def gpt_without_webgpu(browser, tools):
    """The CPU learns a text, too."""
    ready(browser, "gpt.html")
    browser.click("#train")
    browser.wait("20 losses", lambda: len(losses(browser)) >= 20, 240)
    print(f"    {browser.text('#speed')} steps/s")
    quiet(browser)


@test(*SWIFTSHADER)
def speed(browser, tools):
    """Measures every case and writes a text to share."""
    ready(browser, "speed.html?device=gpu")
    browser.click("#run")
    browser.wait("the end", lambda: browser.text("#status") == "done", 240)
    print("    " + browser.text("#share").replace("\n", "\n    "))
    assert "GFLOP/s" in browser.text("#share") and "GB/s" in browser.text("#share")
    assert f"device: {browser.text('#device-name')} (gpu)" in browser.text("#share")
    browser.screenshot(tools.artifacts / "speed.png")
    before_calls(browser, "if (message.call === 'run') answer({ error: 'realize: the device was lost' });")
    browser.click("#run")
    browser.wait("another session", lambda: browser.text("#status") == "ready", 30)
    assert "another session" in browser.text("#notice") and "not run yet" in browser.text("#share")
    browser.screenshot(tools.artifacts / "speed-lost.png")
    quiet(browser)


@test(*SWIFTSHADER)
def mistakes_are_told(browser, tools):
    """A file that is none, and a text that is too short, are said in words."""
    ready(browser, "digits.html?device=gpu")
    bad = tools.downloads / "bad.safetensors"
    bad.write_bytes(b"\x10\0\0\0\0\0\0\0not a header....")
    browser.type("#load", str(bad))
    said = browser.wait("a notice", lambda: browser.text("#notice"), 20)
    assert "byte" in said, said
    with bad.open("wb") as file:
        file.truncate(65 * 1024**2)
    browser.type("#load", str(bad))
    browser.wait("a notice", lambda: "64.0 MiB at most" in browser.text("#notice"), 20)
    bad.unlink()
    ready(browser, "gpt.html?device=gpu")
    browser.run("const t = document.querySelector('#text'); t.value = 'abc'; t.dispatchEvent(new Event('change', {bubbles: true}))")
    said = browser.wait("a notice", lambda: browser.text("#notice"), 20)
    print(f"    {said}")
    quiet(browser)
    mine = tools.downloads / "mine"
    mine.mkdir(exist_ok=True)
    (mine / "thesis.txt").write_text("all of it")
    # Were the folder taken, the compiler would be missed only then.
    built = subprocess.run([tools.path, "--build", "--folder", mine], capture_output=True, text=True,
                           env={**os.environ, "WASM_CARGO": "/bin/false"})
    assert built.returncode and "something else" in built.stderr and (mine / "thesis.txt").exists(), built.stderr


@test(*SWIFTSHADER)
def an_older_browser(browser, tools):
    """Where devices do not say what they are, their adapters do; where neither does, there is no GPU. A file is missing."""
    folder = tools.downloads / "other"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tools.site, folder)
    worker = folder / "worker.js"
    older = "delete GPUDevice.prototype.adapterInfo; if (self.name === 'speed') delete GPUAdapter.prototype.info;\n"
    worker.write_text(older + worker.read_text())
    (folder / "digits.csv.gz").rename(folder / "away")
    server = tools.serve(folder, PORT + 1)
    try:
        browser.go(f"{OTHER}/gpt.html?device=gpu")
        browser.wait("ready", lambda: browser.text("#status") == "ready", 30)
        browser.go(f"{OTHER}/speed.html?device=gpu")
        said = browser.wait("a notice", lambda: browser.text("#notice"), 20)
        assert "no adapter" in said, said
        browser.run("const d = document.querySelector('#device'); d.value = 'cpu'; d.dispatchEvent(new Event('change'))")
        browser.wait("ready", lambda: browser.text("#status") == "ready", 30)
        browser.go(f"{OTHER}/digits.html")
        said = browser.wait("a notice", lambda: browser.text("#notice"), 20)
        assert "digits.csv.gz" in said and "reload the page" in said, said
        (folder / "away").rename(folder / "digits.csv.gz")
        (folder / "wgrad_digits.js").unlink()
        browser.go(f"{OTHER}/digits.html")
        said = browser.wait("a notice", lambda: browser.text("#notice"), 20)
        assert "the engine" in said and "reload the page" in said, said
    finally:
        server.terminate()


@test(*SWIFTSHADER)
def first_page(browser, tools):
    """Leads to the three others; each says that nothing leaves it, and has the policy that makes it so."""
    browser.go(f"{SITE}/")
    links = browser.run("return [...document.querySelectorAll('main a')].map(a => a.getAttribute('href'))")
    for page in ("digits.html", "gpt.html", "speed.html"):
        assert any(page in link for link in links), links
        browser.go(f"{SITE}/{page}")
        assert "Nothing leaves this page" in browser.text("footer"), page
        policy = browser.run("return document.querySelector('meta[http-equiv=Content-Security-Policy]').content")
        assert policy == "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'", policy
        refused = browser.run("return fetch('https://example.org/').then(() => 'sent', () => 'refused')")
        assert refused == "refused"
    # That refusal stands in the console, as it must.
    browser.log("browser")
    browser.go(f"{SITE}/")
    browser.screenshot(tools.artifacts / "index.png")


CIRCLE = [(0.0, 1.0), (-0.5, 0.87), (-0.87, 0.5), (-1.0, 0.0), (-0.87, -0.5), (-0.5, -0.87), (0.0, -1.0),
          (0.5, -0.87), (0.87, -0.5), (1.0, 0.0), (0.87, 0.5), (0.5, 0.87), (0.0, 1.0)]


class Tools:
    """What the tests need beside a browser."""

    def __init__(self, program, site, artifacts):
        self.path = pathlib.Path(program).resolve()
        self.artifacts = pathlib.Path(artifacts).resolve()
        self.downloads = self.artifacts / "downloads"
        self.downloads.mkdir(parents=True, exist_ok=True)
        self.site = pathlib.Path(site).resolve()
        self.server = self.serve(self.site, PORT)
        self.reference = json.loads(self.program("--reference"))

    def serve(self, folder, port):
        return subprocess.Popen([self.path, "--serve", "--folder", folder, "--port", str(port)], stdout=subprocess.DEVNULL)

    def program(self, *words):
        return subprocess.run([self.path, *words], check=True, capture_output=True, text=True).stdout.strip()


def main():
    program, site, artifacts, *names = sys.argv[1:]
    tools, driver = Tools(program, site, artifacts), Driver()
    failed = passed = 0
    try:
        for function, flags in TESTS:
            if names and function.__name__ not in names:
                continue
            start, browser = time.monotonic(), None
            try:
                browser = driver.open(flags, tools.downloads)
                function(browser, tools)
                passed += 1
                print(f"{function.__name__}: ok, {time.monotonic() - start:.1f} s", flush=True)
            except Exception as error:
                failed += 1
                print(f"{function.__name__}: FAILED: {error}", flush=True)
                if browser:
                    browser.screenshot(tools.artifacts / f"failed-{function.__name__}.png")
                    for entry in browser.log("browser"):
                        print(f"    console: {entry['level']} {entry['message']}")
            finally:
                if browser:
                    browser.close()
    finally:
        driver.close()
        tools.server.terminate()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())

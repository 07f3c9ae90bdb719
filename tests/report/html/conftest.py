"""A headless Chromium spoken to over its DevTools pipe (no driver, no network), and run directories to make pages of.

The browser is MASKBENCH_CHROMIUM, else the first of NAMES on the path; without one the tests that need it are skipped.
"""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from maskbench import masks
from maskbench.report import runs as records
from maskbench.report.html.page import page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 60  # seconds for one answer of the browser


def find() -> str | None:
    """MASKBENCH_CHROMIUM, else a browser on the path."""
    named = os.environ.get("MASKBENCH_CHROMIUM")
    return named if named else next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab. `errors` collects exceptions, console errors and what the content policy refused."""

    def __init__(self, browser: "Browser", session: str) -> None:
        self.browser, self.session = browser, session
        self.errors: list[str] = []
        self.requests: list[str] = []
        browser.pages[session] = self
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **params)

    def look(self, width: int, height: int = 900, dark: bool = False) -> None:
        """The window's size in CSS pixels, and the scheme the user prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, path: Path) -> None:
        """Load a file, until its load event, its data are unpacked, and two frames after that."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.readyState === 'complete'")
        self.wait("!document.getElementById('data') || document.documentElement.dataset.ready === 'yes'")
        self.settle()

    def settle(self) -> None:
        """Until two frames have passed: observers have reported and scrolling is told."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited.

        Raises:
            AssertionError: it threw.
        """
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 20) -> Any:
        """The first truthy value of an expression."""
        end = time.monotonic() + seconds
        while not (found := self.run(expression)):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.02)
        return found

    def press(self, key: str, code: int) -> None:
        text = {"text": "\r"} if key == "Enter" else {}  # without a text a key presses no button
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def click(self, selector: str, text: str | None = None) -> None:
        """Click the first element that fits, or the first that fits and reads `text`.

        Raises:
            AssertionError: there is none.
        """
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        wanted = "true" if text is None else f"node.textContent.trim() === {json.dumps(text)}"
        self.run(f"{found}.find((node) => {wanted}).click()")

    def draw_all(self) -> None:
        """What waits to be seen is drawn, as it is for a printer."""
        self.run("dispatchEvent(new Event('beforeprint'))")

    def enter(self, field: str, value: str, event: str) -> None:
        """Put a value into a field, as a user does."""
        self.run(f"document.querySelector('{field}').value = {json.dumps(value)}")
        self.run(f"document.querySelector('{field}').dispatchEvent(new Event('{event}'))")

    def move(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def hear(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(json.dumps(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])


class Browser:
    """A running browser: messages are JSON with a zero byte after each."""

    def __init__(self, write: int, read: int) -> None:
        self.write, self.read = write, read
        self.numbers, self.buffer = itertools.count(1), b""
        self.answers: dict[int, dict[str, Any]] = {}
        self.pages: dict[str, Page] = {}

    def page(self) -> Page:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        return Page(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while number not in self.answers:
            self.receive()
        answer = self.answers.pop(number)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def receive(self) -> None:
        assert select.select([self.read], [], [], PATIENCE)[0], "the browser does not answer"
        part = os.read(self.read, 1 << 16)
        assert part, "the browser is gone"
        *whole, self.buffer = (self.buffer + part).split(b"\0")
        for message in map(json.loads, whole):
            if "id" in message:
                self.answers[message["id"]] = message
            elif message.get("sessionId") in self.pages:
                self.pages[message["sessionId"]].hear(message["method"], message["params"])


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, ended afterwards."""
    commands, answers = os.pipe(), os.pipe()
    # the browser reads file 3 and writes file 4, whatever numbers our pipes have
    shell = ["sh", "-c", f'exec "$@" 3</dev/fd/{commands[0]} 4>/dev/fd/{answers[1]}', "sh"]
    process = subprocess.Popen(
        [*shell, program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(commands[0], answers[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(commands[0])
    os.close(answers[1])
    try:
        yield Browser(commands[1], answers[0])
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(commands[1])
        os.close(answers[0])


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find()
    if program is None:
        pytest.skip("no Chromium: install Debian's package chromium, or name a browser in MASKBENCH_CHROMIUM")
    with browser(program, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    """A fresh tab at desk width; whatever a test does with it, no error may turn up."""
    page = chromium.page()
    page.look(1440)
    yield page
    page.call("Page.close")
    assert page.errors == []


# ---- run directories


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """`write(root, method, seed, metrics, ...)`: a run directory as a finished run leaves it."""
    return write_run


def write_run(
    root: Path,
    method: str,
    seed: int,
    metrics: dict[str, Any],
    *,
    data: str = "toy",
    task: str = "continual",
    key: str = "k1",
    status: str = "finished",
    config: dict[str, Any] | None = None,
    about: dict[str, Any] | None = None,
    history: dict[str, list[float]] | None = None,
    drawn: dict[str, torch.Tensor] | None = None,
    **result: Any,
) -> Path:
    """`history`: part -> losses at steps 50, 100, ...; `drawn`: masks; `about` goes into run.json, `result` into result.json."""
    run = root / f"{method}-{data}" / f"s{seed}-{key}"
    run.mkdir(parents=True)
    asked = {
        "seed": seed,
        "paths": {"output": str(root)},
        "method": {"_target_": "m.M", "name": method},
        "data": {"name": data},
        "task": {"name": task},
        "optimizer": {"lr": 0.1},
        "budget": {"epochs": 3, "batch_size": 128},
    }
    told = {
        "key": key,
        "seed": seed,
        "choices": {"method": method, "data": data},
        "overrides": [f"method={method}", f"data={data}", f"seed={seed}", f"paths.output={root}"],
        "config": asked | (config or {}),
        "status": status,
        "commit": "c0ffee" * 6 + "c0ff",
        "branch": "main",
        "dirty": False,
        "attempts": [{"started": "2020-01-01T00:00:00+00:00", "status": status}],
        "data": {"source": "npm", "checksums": {"train": "0123456789abcdef"}},
        "cost": {"wall_seconds": 10.0 + seed, "cpu_seconds": 9.0, "peak_memory_bytes": 1 << 28},
        "cpu": "Zuse 3",
        "cores": 2,
        "threads": 1,
        "platform": "Linux",
        "python": "3.11",
        "versions": {"torch": "2.6"},
    } | (about or {})
    (run / "run.json").write_text(json.dumps(told))
    if status == "finished":
        goal = next(iter(metrics))
        made = {"status": status, "objective": metrics[goal], "objective_name": goal, "metrics": metrics, "method": method}
        made |= {"data": data, "task": task, "seed": seed, "key": key, "source": told["data"]["source"]} | result
        (run / "result.json").write_text(json.dumps(made))
    if history:
        rows = [
            f"{part},train,{50 * i + 50},loss,{value!r}" for part, values in history.items() for i, value in enumerate(values)
        ]
        (run / "metrics.csv").write_text("\n".join(["stage,phase,step,metric,value", *rows]) + "\n")
    if drawn:
        masks.save(run / "masks.safetensors", drawn)
    return run


@pytest.fixture(scope="session")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a hundred runs of the size real ones have: four methods of three tasks, two data sets, 3 to 5 seeds."""
    root = tmp_path_factory.mktemp("hundred") / "outputs"
    sizes = {"hidden.0.weight": (300, 784), "hidden.1.weight": (100, 300), "head.weight": (10, 100)}
    steps = [1 / (1 + i) for i in range(60)]
    for seed in range(5):
        draw = torch.Generator().manual_seed(seed)
        scores = {name: torch.rand(shape, generator=draw) for name, shape in sizes.items()}
        for knob in range(5):  # 25 continual runs of 10 stages
            rows = [
                [0.98 - 0.01 * (i - j) - 0.001 * knob + 0.001 * seed if j <= i else None for j in range(10)] for i in range(10)
            ]
            table = [
                {"stage": f"digits {j}", "accuracy when learnt": rows[j][j], "accuracy at the end": rows[9][j]} for j in range(10)
            ]
            metrics = {"average_accuracy": sum(rows[9]) / 10, "forgetting": 0.01 * knob, "memory_bytes": 1000 * 2**knob}
            metrics |= {"forward_transfer": None, "task_inference/one_shot": 0.5, "task_inference/binary": 0.6 + 0.01 * seed}
            drawn = {f"{s}/{n}": torch.rand(x.shape, generator=draw) < 0.1 * (s + 1) for s in range(3) for n, x in scores.items()}
            told = {"data": "splitmnist", "key": f"p{knob}", "config": {"method": {"name": "packnet", "keep": knob}}}
            told |= {"drawn": drawn, "history": {f"digits {j}": steps for j in range(10)}}
            write_run(root, "packnet", seed, metrics, matrices={"accuracy": rows}, table=table, **told)
        for knob in range(5):  # 50 pruning runs of 16 levels and two controls, on two data sets
            for data in ("mnist", "fashion_mnist"):
                metrics = {"accuracy": 0.97 + 0.001 * seed - 0.01 * knob, "density": round(0.8**15, 6)}
                for level in range(16):
                    for branch, loss in (("ticket", 0.0), ("reinit", 0.002), ("random", 0.003)):
                        metrics[f"accuracy/{branch}/{0.8**level:.4f}"] = 0.98 - loss * level + 0.001 * seed - 0.01 * knob
                drawn = {f"{i}/{name}": score > 1 - 0.8**i for i in range(16) for name, score in scores.items()}
                told = {"data": data, "task": "prune", "key": f"l{knob}", "config": {"optimizer": {"lr": knob / 10}}}
                told |= {"drawn": drawn, "history": {f"level {i}": steps for i in range(16)}}
                write_run(root, "lottery", seed, metrics, **told)
        for knob in range(5):  # 25 uncertainty runs
            metrics = {"accuracy": 0.99 - 0.001 * knob, "ece": 0.01 * knob + 0.001 * seed, "nll": 0.1, "brier": 0.02}
            metrics |= {f"auroc_entropy/{name}": 0.9 + 0.01 * knob for name in ("letters", "noise", "fashion")}
            metrics |= {f"ece/rotation/{angle}": 0.01 * angle / (1 + knob) for angle in (15, 30, 45, 60)}
            method = ("masksembles", "ensemble")[knob % 2]
            config = {"method": {"name": method, "members": knob}}
            history = {"mnist": steps}
            write_run(
                root, method, seed, metrics, data="mnist", task="uncertainty", key=f"u{knob}", config=config, history=history
            )
    return root


@pytest.fixture(scope="session")
def report(hundred: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the hundred runs."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(page(records.read(hundred), "outputs"), encoding="utf-8")
    return file

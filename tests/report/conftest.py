"""Finished runs as a run leaves them, written by hand to the documented layout; what a journal checks of a PDF."""

import json
import re
import shutil
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FONT, REFERENCE = rb"/Type /Font\b", rb"(\d+) 0 R"


@dataclass(frozen=True)
class Printed:
    """A figure as a PDF: `width` and `sizes` of its texts in points; `embedded`: for each font whether its outlines are in the
    file as TrueType."""

    width: float
    sizes: list[float]
    embedded: dict[str, bool]

    @classmethod
    def read(cls, path: Path) -> "Printed":
        pdf = path.read_bytes()
        objects = {int(n): body for n, body in re.findall(rb"(\d+) 0 obj\n(.*?)\nendobj", pdf, re.DOTALL)}
        (box,) = (re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", body) for body in objects.values() if b"/MediaBox" in body)
        told = "\n".join(filter(lambda text: " Tf" in text, map(content, objects.values())))
        fonts = {}
        for body in objects.values():
            if re.search(FONT, body) and b"/Subtype /Type0" not in body:  # which only names another one
                name = re.search(rb"/BaseFont /(\S+)", body)
                place = re.search(rb"/FontDescriptor " + REFERENCE, body)
                file = place and re.search(rb"/FontFile2 " + REFERENCE, objects[int(place[1])])
                fonts[name[1].decode() if name else "?"] = bool(file and content(objects[int(file[1])], "latin1"))
        return cls(float(box[1]), [float(size) for size in re.findall(r"/F\S+ ([\d.]+) Tf", told)], fonts)


def content(body: bytes, coding: str = "latin1") -> str:
    """What is compressed in an object; empty where it has no stream."""
    found = re.search(rb"stream\r?\n(.*)\r?\nendstream", body, re.DOTALL)
    try:
        return zlib.decompress(found[1]).decode(coding) if found else ""
    except zlib.error:
        return ""


@pytest.fixture
def printed() -> Callable[[Path], Printed]:
    """`printed(path)`: what of a PDF a journal checks; where pdffonts is there, it says the same of the fonts."""

    def read(path: Path) -> Printed:
        made = Printed.read(path)
        if program := shutil.which("pdffonts"):
            told = subprocess.run([program, str(path)], capture_output=True, text=True, check=True).stdout.splitlines()[2:]
            words = [line.split() for line in told]
            theirs = {own[0]: "TrueType" in own and own[own.index("TrueType") + 2] == "yes" for own in words}
            assert theirs == made.embedded
        return made

    return read


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Path]:
    """`record(seed, metrics, method=..., key=..., ...)`: a run directory below tmp_path/outputs."""

    def write(
        seed: int, metrics: dict[str, Any], *, method: str = "supsup", data: str = "toy", key: str = "k1", **more: Any
    ) -> Path:
        run = tmp_path / "outputs" / f"{method}-{data}" / f"s{seed}-{key}"
        run.mkdir(parents=True)
        facts = {"status": "finished", "source": "npm", "commit": "c0ffee" * 7, "dirty": False, "checksums": {}} | more
        config = {
            "seed": seed,
            "method": {"name": method},
            "data": {"name": data},
            "task": {"name": "continual"},
            "budget": {"steps": None, "epochs": 3, "batch_size": 128},
        } | facts.get("config", {})
        about = {
            "status": facts["status"],
            "key": key,
            "seed": seed,
            "choices": {"method": method, "data": data},
            "config": config,
            "commit": facts["commit"],
            "dirty": facts["dirty"],
            "attempts": facts.get("attempts", [{"started": "2020-01-01", "status": facts["status"]}]),
            "data": {"source": facts["source"], "checksums": facts["checksums"]},
            "cpu": "Zuse 3",
            "cores": 2,
            "threads": 1,
        }
        (run / "run.json").write_text(json.dumps(about))
        if facts["status"] == "finished":
            name = next(iter(metrics))
            result = {"status": "finished", "objective": metrics[name], "objective_name": name, "metrics": metrics}
            result |= {"method": method, "data": data, "source": facts["source"], "seed": seed, "key": key, "task": "continual"}
            (run / "result.json").write_text(json.dumps(result))
        return run

    return write

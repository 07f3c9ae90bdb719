"""Fuzz the command line: `scripts/fuzz.py N SEED` makes N command lines (fuzz_lines.py), judges each, and runs what is accepted.

Each line must be refused with status 2 by sentences that name a key, before torch is imported and within a second of CPU, or
run its 2 steps on made-up data to status 0. Prints counts and the lines of which neither is true; status 1 if there are any.
"""

import argparse
import collections
import multiprocessing
import os
import re
import resource
import shlex
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import fuzz_lines

from maskbench.cli import command_line, forks, preflight, schema  # noqa: F401 - preflight: imported once, not in each fork
from maskbench.cli import main as program
from maskbench.cli import start as starting
from maskbench.cli.commands import compare  # noqa: F401
from maskbench.common import identity

ACCEPTED, UNFORESEEN = 77, 78  # exit statuses of a judging fork, beside the program's own
JUDGING = 1.0  # seconds of CPU
OFFLINE = {"PIP_NO_INDEX": "1", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}  # fetch nothing
LIMIT = 60  # seconds of CPU of a run
GROUPS = "|".join({*schema.DECLARED, *command_line.groups([identity.conf_dir()]), "hydra"})
SENTENCE = re.compile(r"^maskbench: (.*(?:\n  .*)*)", re.MULTILINE)  # with what is indented below it, as a sweep lists its jobs
KEY = re.compile(rf"(?<![\w.])(?:{GROUPS})[.=]|~\w|--\w")  # a key, a deletion, a flag


def judge(words: list[str], log: Path) -> tuple[str, float]:
    """What the command line makes of the words in a fork that starts no run: (accepted, refused or what went wrong, seconds)."""
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = os.fork()
    if child == 0:
        _to_files(log)
        try:
            starting.launch = lambda *_, **__: ACCEPTED
            status = program.main(words)
            if "torch" in sys.modules:
                print("torch was imported", file=sys.stderr)
                status = UNFORESEEN
        except BaseException:
            traceback.print_exc()
            status = UNFORESEEN
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime
    return {ACCEPTED: "accepted", 0: "printed"}.get(status) or refusal(status, log.read_text(errors="replace"), words), seconds


def refusal(status: int, text: str, words: list[str]) -> str:
    """Whether a status that is not 0, with this text on standard error, is a refusal by sentences that each name a key; what else
    it is."""
    sentences = SENTENCE.findall(text)
    if "Traceback" in text or "torch was imported" in text or status == UNFORESEEN:
        return "traceback" if "Traceback" in text else "torch imported"
    if status < 0:
        return "over the limit" if -status in (signal.SIGXCPU, signal.SIGKILL) else f"signal {-status}"
    if status != 2:
        return f"status {status}"
    if not sentences or not all(names_a_key(sentence, words) for sentence in sentences):
        return "no key named"
    return "refused"


def names_a_key(sentence: str, words: list[str]) -> bool:
    """A key, or the user's own words in quotes."""
    quoted = re.findall(r"'([^' ]+[^']*)'", sentence)
    return bool(KEY.search(sentence)) or any(text in " ".join(words) for text in quoted)


def run(words: list[str], log: Path) -> str:
    """Run an accepted line in a process with its imports done: ran, refused or what went wrong."""
    log.unlink(missing_ok=True)
    process = multiprocessing.get_context("forkserver").Process(target=limited, args=(words, os.getcwd(), str(log)))
    process.start()
    process.join()
    if process.exitcode == 0:
        return "ran"
    text = log.read_text(errors="replace") if log.exists() else ""
    return "refused as it starts" if (kind := refusal(process.exitcode, text, words)) == "refused" else kind


def limited(words: list[str], folder: str, log: str) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT + 2))
    forks.program(words, folder, log, link=None)


def _to_files(log: Path) -> None:
    for stream, path in ((1, os.devnull), (2, log)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)


def made(count: int, seed: int) -> list[list[str]]:
    """The lines, made in another process, so that each is judged by one that has read no file yet."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_list, (count, seed))


def _list(count: int, seed: int) -> list[list[str]]:
    return list(fuzz_lines.lines(count, seed))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--judge", action="store_true", help="run nothing")
    parser.add_argument("--all", action="store_true", help="print every line and what came of it")
    args = parser.parse_args()
    counts: collections.Counter[str] = collections.Counter()
    slowest, begun = 0.0, time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        os.chdir(folder)
        os.environ |= {"MASKBENCH_DATA": f"{folder}/data"} | OFFLINE
        if not args.judge:
            forks.begin()
        for number, words in enumerate(made(args.count, args.seed)):
            log = Path(folder) / "log"
            kind, seconds = judge(words, log)
            slowest = max(slowest, seconds)
            if seconds > JUDGING:
                counts["slow to judge"] += 1
                print(f"slow to judge ({seconds:.2f} s): {shlex.join(words)}")
            if kind == "accepted" and not args.judge and "trainer=ddp" not in words:  # whose processes begin by the command line
                kind = run([*words, f"paths.output={folder}/out{number}"], log)
            counts[kind] += 1
            wrong = kind not in RIGHT
            if wrong or args.all:
                said = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
                print(f"{kind}: {shlex.join(words)}\n    " + "\n    ".join(said[-8:] if wrong else said[:2]), flush=True)
    print(", ".join(f"{count} {kind}" for kind, count in counts.most_common()), end="; ")
    print(f"slowest judged in {slowest:.2f} s of CPU; {time.perf_counter() - begun:.0f} s in all")
    return int(bool(counts.keys() - RIGHT))


RIGHT = {"refused", "accepted", "printed", "ran", "refused as it starts"}

if __name__ == "__main__":
    sys.exit(main())

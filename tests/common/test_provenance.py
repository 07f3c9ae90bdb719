"""Provenance: the commit is that of the code that ran, looking never fails, and the diff really rebuilds the code."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import maskbench
from maskbench.common import provenance


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in provenance.REDIRECTS:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "repo"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.py").write_text("x = 1\n")
    (folder / ".gitignore").write_text("outputs/\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def test_a_clean_checkout(repo: Path) -> None:
    head = git(repo, "rev-parse", "HEAD")
    assert provenance.commit(repo / "inner") == {"commit": head, "branch": "main", "dirty": False}
    assert provenance.diff(repo) == ""


def test_ignored_files_do_not_make_it_dirty_and_new_ones_do(repo: Path) -> None:
    (repo / "outputs").mkdir()
    (repo / "outputs" / "result.json").write_text("{}")
    assert provenance.commit(repo)["dirty"] is False
    (repo / "wonder.py").write_text("y = 2\n")
    assert provenance.commit(repo)["dirty"] is True


def test_a_detached_head_has_no_branch(repo: Path) -> None:
    git(repo, "checkout", "-q", "--detach")
    assert provenance.commit(repo)["branch"] is None
    assert len(provenance.commit(repo)["commit"]) == 40


def test_no_commit_yet(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("x = 1\n")
    assert provenance.commit(tmp_path) == {"commit": None, "branch": "main", "dirty": True}
    assert provenance.diff(tmp_path) == ""


def test_the_diff_rebuilds_the_code_that_ran(repo: Path, tmp_path: Path) -> None:
    (repo / "a.py").write_text("x = 2  # changed\n")
    (repo / "staged.py").write_text("z = 3\n")
    git(repo, "add", "staged.py")
    (repo / "inner" / "wonder.py").write_text('text = "form\x0cfeed, \u2028 and no newline at the end"')
    (repo / "a name.yaml").write_bytes(b"lr: 0.1\r\n")
    (repo / "empty.py").write_text("")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repo), str(clone))
    patch = tmp_path / "changes.diff"
    patch.write_bytes(provenance.diff(repo).encode())
    git(clone, "apply", str(patch))
    for name in ("a.py", "staged.py", "inner/wonder.py", "a name.yaml", "empty.py"):
        assert (clone / name).read_bytes() == (repo / name).read_bytes(), name


def test_results_are_no_code(repo: Path) -> None:
    """Runs written into the repository, where git does not ignore them, leave the code what it was."""
    before = provenance.diff(repo)
    for place in ("out/a-b/s0-1", "out/a-b/s1-1", "c-d/s0-2"):
        (repo / place).mkdir(parents=True)
        for name in (".lock", "run.json", "figure.svg"):
            (repo / place / name).write_text("{}")
    (repo / "out" / "tables").mkdir()
    (repo / "out" / "tables" / "quick.md").write_text("a table\n")
    about = provenance.commit(repo)
    assert provenance.diff(repo) == before == "" and about["dirty"] is False
    (repo / "mine.py").write_text("x = 3\n")
    assert "+x = 3" in provenance.diff(repo) and provenance.commit(repo)["dirty"] is True


def test_a_code_is_the_hash_of_what_computes_and_in_older_records_the_commit() -> None:
    about = {"commit": "c" * 40, "dirty": True}
    assert provenance.code(about | {"code": {"closure": "beef", "modules": {}}}, "a patch") == "beef"
    assert provenance.code(about, "a patch") == provenance.committed(about, "a patch") != provenance.code(about, "another")
    own = {provenance.code({"commit": "c" * 40, "own_code": code}, "") for code in ({}, {"lab": "1"}, {"lab": "2"})}
    assert len(own) == 3 and "c" * 10 in own


def test_large_and_binary_files_are_named_not_copied(repo: Path) -> None:
    (repo / "weights.bin").write_bytes(b"\xff\x00" * 10)
    for name in "bcd":
        (repo / f"{name}.txt").write_text("0\n" * (provenance.DIFF_LIMIT // 6))
    text = provenance.diff(repo)
    assert "# untracked, not copied: weights.bin\n" in text
    assert "# untracked, not copied: d.txt\n" in text
    assert len(text) < 1.5 * provenance.DIFF_LIMIT


def test_a_hooks_environment_does_not_point_elsewhere(repo: Path, tmp_path: Path, monkeypatch) -> None:
    head = git(repo, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert provenance.commit(repo)["commit"] == head


def test_no_repository_and_no_git(repo: Path, tmp_path: Path, monkeypatch, capfd) -> None:
    unknown = {"commit": None, "branch": None, "dirty": None}
    (tmp_path / "plain").mkdir()
    assert provenance.commit(tmp_path / "plain") == unknown
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.commit(repo) == unknown
    assert provenance.diff(repo) == ""
    assert capfd.readouterr() == ("", "")


def test_a_wheel_does_not_borrow_the_commit_of_the_folder_it_lies_in(repo: Path, monkeypatch) -> None:
    installed = repo / ".venv" / "lib" / "site-packages" / "maskbench" / "__init__.py"
    monkeypatch.setattr(maskbench, "__file__", str(installed))
    monkeypatch.setattr(provenance, "imported", provenance.imported.__wrapped__)  # as a process that has not asked yet
    assert provenance.checkout() is None
    assert provenance.collect()["commit"] is None
    assert provenance.collect()["maskbench"] == maskbench.__version__
    assert provenance.diff() == ""
    monkeypatch.setattr(maskbench, "__file__", str(repo / "maskbench" / "__init__.py"))
    assert provenance.checkout() == repo.resolve()


def test_collect_is_json_quiet_and_complete(capfd) -> None:
    found = json.loads(json.dumps(provenance.collect()))
    assert found["versions"]["torch"] and (found["versions"]["wandb"] is None) == (find_spec("wandb") is None)
    assert found["cores"] >= 1 and found["memory_bytes"] > 2**28 and found["cpu"]
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["argv"] == sys.argv
    assert capfd.readouterr() == ("", "")


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, maskbench.provenance, maskbench.loggers, maskbench.report.wandb_file;"
        "maskbench.common.provenance.collect();"
        "print({'torch', 'wandb', 'pytorch_lightning', 'numpy', 'tensorboard'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")


def test_cost_counts_threads_children_and_memory() -> None:
    start = provenance.cost()
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    held = bytearray(64 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    spent = provenance.cost(since=start)
    assert spent["cpu_seconds"] >= 0.35
    assert spent["wall_seconds"] >= 0.35
    assert spent["peak_memory_bytes"] >= 64 * 2**20
    assert provenance.cost()["cpu_seconds"] > spent["cpu_seconds"]


def test_peak_memory_is_not_inherited_from_the_parent() -> None:
    held = bytearray(200 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    code = "from maskbench.common.provenance import cost; print(cost()['peak_memory_bytes'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if Path("/proc/self/status").exists():
        assert int(done.stdout) < 150 * 2**20

"""What is told of Ray's tasks, with a stand-in for Ray; a real one is in test_ray.py."""

import socket
from types import SimpleNamespace

import pytest

from maskbench.cli import command_line, preflight, ray_launcher
from maskbench.cli.elsewhere import Lost
from maskbench.common.errors import UsageError


class RayError(Exception):
    pass


ERRORS = {
    name: type(name, (RayError,), {})
    for name in ("TaskCancelledError", "OutOfMemoryError", "WorkerCrashedError", "NodeDiedError")
}


def stand_in(answer: object) -> SimpleNamespace:
    def get(_: object) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return SimpleNamespace(get=get, exceptions=SimpleNamespace(RayError=RayError, **ERRORS))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ERRORS["TaskCancelledError"](), "it was stopped; the same command goes on"),
        (ERRORS["OutOfMemoryError"](), "its node ran out of memory (hydra.launcher.memory_gb"),
        (ERRORS["WorkerCrashedError"](), "killed more often than hydra.launcher.retries"),
        (ERRORS["NodeDiedError"](), "killed more often than hydra.launcher.retries"),
        (RayError("in do()\nModuleNotFoundError: No module named 'maskbench'"), "No module named 'maskbench'"),
    ],
)
def test_a_run_without_an_answer_is_told_with_its_reason(error: Exception, told: str) -> None:
    lost = ray_launcher.returned(stand_in(error), None)
    assert isinstance(lost, Lost) and lost.reason.startswith("not finished: ") and told in lost.reason


def test_an_answer_is_what_the_run_ended_with() -> None:
    assert ray_launcher.returned(stand_in((0.5, None)), None) == (0.5, None)


def test_without_ray_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_launcher, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs Ray, which is not here: pip install 'maskbench\[ray\]'"):
        ray_launcher.connected(None)


def test_the_sweep_is_judged_like_any_other() -> None:
    command = preflight.check(["sweep=ray", "method=packnet", "hydra.launcher.address=head:6379"], starts=False)
    assert command.multirun and len(list(command_line.jobs(command))) == 5
    with pytest.raises(UsageError, match="hydra.launcher.adress"):
        preflight.check(["sweep=ray", "method=packnet", "hydra.launcher.adress=head:6379"], starts=False)


def test_runs_see_the_environment_that_they_may_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKBENCH_DATA", "/data")
    monkeypatch.setenv("SECRET", "x")
    _, own = ray_launcher.surroundings()
    assert own["MASKBENCH_DATA"] == "/data" and "SECRET" not in own


def test_an_address_where_nothing_listens_is_one_sentence() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))  # and does not listen
        nowhere = f"127.0.0.1:{one.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"no Ray at hydra.launcher.address={nowhere} .connection refused.: start it by"):
            ray_launcher.reach(nowhere)
        one.listen()
        ray_launcher.reach(nowhere)
    for address in (None, "auto", "local"):
        ray_launcher.reach(address)

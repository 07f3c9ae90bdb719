"""The command line: a sub-command, or overrides that are checked and handed to Hydra (launch.py). Imports no torch, and no Hydra
for a sub-command that needs none."""

import importlib
import os
import sys

from maskbench import __version__
from maskbench.cli.interrupts import terminable
from maskbench.cli.statuses import DONE, INTERRUPTED, USER, complain
from maskbench.common.errors import UsageError, did_you_mean

COMMANDS = {
    "list": "what can be chosen, one line each",
    "show": "the resolved config, or a run's record",
    "where": "the run directory of a command, and its state",
    "rerun": "a recorded run once more",
    "results": "all runs, one row each",
    "compare": "two methods or settings, paired over their seeds",
    "paired": "all methods on the same draws, paired with a baseline",
    "table": "a paper's table or all of them: run what is missing, ours beside the paper's",
    "figure": "figures of a run, or of its seeds together",
    "report": "one HTML page of all runs: sortable tables, plots, masks, where each number came from",
    "export": "the trained net of a run as a file: safetensors, torch, onnx, torch-pruned or 24",
    "evaluate": "a net that is there already, judged without training: calibration, conformal sets, unknown classes",
    "compact": "the trained net of a run as a smaller dense one, without the units that do nothing",
    "forget": "a run's state without one of its stages, every other answering as before, with the proof",
    "note": "a remark or tags for a run that is there",
    "verify": "whether every file of runs is what they wrote",
    "doctor": "this machine and what is installed",
    "data": "which data sets are here; fetch NAME gets one",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command line (default: the process's own) and return its exit status."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin at barriers starve one another
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # `_target_: mymodule.Net` beside the user, for the console script too; last, as it hides nothing
    try:
        with terminable():
            return _dispatch(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        complain(str(error))
        return USER
    except KeyboardInterrupt:
        complain("interrupted; the same command goes on where it stopped.")
        return INTERRUPTED
    except BrokenPipeError:  # `maskbench list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        from maskbench.cli.launch import judge_outside

        status, reason = judge_outside(error)
        complain(reason)
        return status


def _dispatch(argv: list[str]) -> int:
    if not argv:
        print(_usage())
    elif argv[0] in COMMANDS:
        return importlib.import_module(f"maskbench.cli.commands.{argv[0]}").main(argv[1:])
    elif "=" not in argv[0] and not argv[0].startswith(("-", "~")):
        from maskbench.cli import command_line

        command_line.stop_at_words_apart(argv)
        known = ", ".join(COMMANDS)
        raise UsageError(f"unknown command '{argv[0]}'.{did_you_mean(argv[0], COMMANDS)} Commands: {known}.")
    elif argv == ["--version"]:
        print(f"maskbench {__version__}")
    elif any(word in ("--help", "-h") for word in argv):
        print(_help())
    elif any(word in ("--shell-completion", "-sc") for word in argv):
        from maskbench.cli.launch import launch

        return launch(argv, sweep=False)
    else:
        from maskbench.cli.start import start

        return start(argv)
    return DONE


def _usage() -> str:
    return (
        f"maskbench {__version__}: experiments on masks in neural networks\n\n"
        "  python -m maskbench method=supsup data=splitmnist            one run\n"
        "  python -m maskbench -m method=supsup,packnet seed=0,1,2      all six; finished runs are skipped\n\n"
        "  python -m maskbench --help                                   all choices and commands"
    )


def _help() -> str:
    """The text of conf/hydra/help/maskbench.yaml; composing a config only to print it would take longer."""
    from maskbench.cli import command_line
    from maskbench.common import identity, yamls

    folder = identity.conf_dir()
    text = yamls.parse((folder / "hydra" / "help" / "maskbench.yaml").read_text())
    rows = [(group, command_line.choices([folder], group)) for group in command_line.groups([folder])]
    listing = "".join(f"  {group:<12}{', '.join(names)}\n" for group, names in rows)
    parts = {"${hydra.help.header}": text["header"], "${hydra.help.footer}": text["footer"]}
    page = text["template"].replace("$APP_CONFIG_GROUPS", listing.strip() + "\n")
    for name, part in parts.items():
        page = page.replace(name, part)
    return page.rstrip()

"""`maskbench where KEY=VALUE ...`: the directory of each run a command would start, and its state."""

from maskbench import identity
from maskbench.commands.common import aligned
from maskbench.report.runs import state


def main(argv: list[str]) -> int:
    from maskbench import preflight

    if argv in (["--help"], ["-h"]):
        print("maskbench where [-m] KEY=VALUE ...: run directory and state; values with commas give one line per run.")
        return 0
    command = preflight.parse(argv)
    if any(override.is_sweep_override() for override in command.overrides) and "-m" not in argv:
        argv = [*argv, "-m"]
    command = preflight.check(argv, starts=False)
    rows = []
    for job in preflight.jobs(command):
        run = identity.run_dir(command.compose(job)).absolute()
        rows.append([str(run), state(run)])
    print(aligned(rows))
    return 0

"""The runs of a line of overrides: judged, then handed to Hydra (launch.py). Imports no torch, and no Hydra before it starts."""

from maskbench.cli.launch import launch


def start(argv: list[str]) -> int:
    """Do the runs that the overrides `argv` ask for; the exit status.

    Raises:
        UsageError: nothing was started, for what the line says.
    """
    from maskbench.cli import command_line, preflight, side_by_side, slurm_launcher

    command = preflight.check(argv)
    slurm_launcher.install()
    return launch(command_line.handed_over(command), sweep=command.multirun, before=side_by_side.run(command))

"""The runs of a line of overrides: judged, then handed to Hydra (launch.py). Imports no torch, and no Hydra before it starts."""

from maskbench.cli.launch import launch


def start(argv: list[str]) -> int:
    """Do the runs that the overrides `argv` ask for; the exit status.

    Raises:
        UsageError: nothing was started, for what the line says.
    """
    from maskbench.cli import command_line, preflight, ray_launcher, side_by_side, slurm_launcher, sweep_clock

    command = preflight.check(argv)
    slurm_launcher.install()
    ray_launcher.install()
    before = side_by_side.run(command)
    return launch(command_line.handed_over(command), sweep=command.multirun, before=before, clock=sweep_clock.of(command))

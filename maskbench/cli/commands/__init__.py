"""The sub-commands: each module has `main(argv) -> exit status` and imports no torch."""

"""The sub-commands: each module has `main(argv) -> exit status`.

Imports what maskbench/cli does, and no torch.
"""

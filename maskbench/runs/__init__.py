"""One run from its config to its record: objects made, the task run, files written, resumed, loaded again.

Imports every room but cli. Only here does the config tree become objects.
"""

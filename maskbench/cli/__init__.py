"""The command line: overrides taken apart and checked before anything starts, sweeps, jobs side by side.

Imports every room; of those that compute only what knows where files are, and no torch before a run starts.
"""

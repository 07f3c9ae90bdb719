"""What every room may use: errors that name the mend, files written whole, random streams, a run's identity and provenance.

Imports nothing of maskbench but its version, and no torch where a command line does without.
"""

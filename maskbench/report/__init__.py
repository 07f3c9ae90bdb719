"""Finished and unfinished runs read back from their files: tables, verdicts, figures, comparisons, and one HTML page.

Imports common only, and no torch: whatever it says of a run stands in the run's own files.
"""

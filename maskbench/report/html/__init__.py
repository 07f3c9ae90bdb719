"""The report: finished and unfinished runs as one self-contained HTML page. Imports no torch."""

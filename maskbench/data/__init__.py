"""Stages: what one part of a run trains and is tested on, from images, tables, episodes or formulas.

Imports common only; no torch where files are only found (sources).
"""

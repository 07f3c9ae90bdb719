"""Streams of stages: which classes each has, stages that come again or mix at their boundaries, several data sets in a row.

Imports common and other folders of data; no torch where a stream is only planned (plan.py).
"""

"""Data sets as lists of stages: what a stage is (stage.py, the page to read first), regression with Gaussians (gaussian.py), and
a room for each kind of data. May import maskbench.common.
"""

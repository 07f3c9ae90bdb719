"""What a run does with a method: one page for each type of experiment, and what it asks of a method beyond training.

Imports common, backbones, data, training and methods. A task does not know Lightning, Hydra or the run directory.
"""

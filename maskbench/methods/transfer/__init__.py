"""Transfer learning from a source to a target: a file for each paper or group of baselines, and penalties as pure functions.
May import maskbench.common, masks, backbones, data and training.
"""

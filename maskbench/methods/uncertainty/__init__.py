"""Ensembles and their stand-ins, a file for each paper: many members answer, and their spread is the uncertainty. May import
maskbench.common, masks, backbones, data and training.
"""

"""Methods that learn one stage after another and keep what they learnt: a mask, weights or a head for each.

Imports what maskbench/methods does.
"""

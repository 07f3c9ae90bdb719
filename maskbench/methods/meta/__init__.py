"""Methods that learn from episodes how to adapt to a new one in a few steps: starting weights, or a mask.

Imports what maskbench/methods does.
"""

"""Methods whose members disagree where they do not know: masks over units, dropout, ensembles.

Imports what maskbench/methods does.
"""

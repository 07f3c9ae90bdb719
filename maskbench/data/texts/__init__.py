"""Data sets of texts, as tokens of the tokenizer that a net was published with.

Imports common and other folders of data.
"""

"""A trained net without what does nothing in it: units without inputs or without readers leave, constants go into biases.

`smaller.py` is the way in. `graph.py` follows a net's forward pass, `constants.py` finds units that answer the same to every
input, `readers.py` those that nobody reads, `rebuild.py` makes the smaller layers, `source.py` writes them as a plain module.
"""

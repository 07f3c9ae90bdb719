"""Methods that carry a net from a source to a target, by masks or by fine-tuning with penalties.

Imports what maskbench/methods does.
"""

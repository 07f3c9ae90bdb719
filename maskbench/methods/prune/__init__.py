"""Methods that look for one sparse subnetwork: by magnitude, by other criteria, or by scores that are trained.

Imports what maskbench/methods does.
"""

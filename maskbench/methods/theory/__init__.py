"""Targets found inside random nets by masking alone: subset sums, constructions, and certificates of how near they came.

Imports what maskbench/methods does.
"""

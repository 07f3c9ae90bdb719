"""Runs as one self-contained HTML page: Python writes the data, assets/ holds the page that draws it.

Imports what maskbench/report does.
"""

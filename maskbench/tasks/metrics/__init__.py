"""The numbers of a task, as functions of predictions and labels.

Imports what maskbench/tasks does.
"""

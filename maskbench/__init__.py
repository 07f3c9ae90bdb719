"""maskbench: one experiment runner for research on masks in neural networks."""

__version__ = "0.1.0"

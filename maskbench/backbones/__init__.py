"""Plain networks that masks are laid over, by names of their weights; their initial values, norms and gates.

Imports common and masks. Which method or task uses a net it does not know.
"""

"""How a method is trained: its contract, the loop, optimisers and schedules, evaluation, and the journal a run resumes from.

Imports common, masks, backbones and data. Lightning is known here and nowhere above; which method it trains is not.
"""

"""Meta-learning: MAML and its relatives as one learner (episodic.py), and inner loops as pure functions (inner.py). May import
maskbench.common, masks, backbones, data and training.
"""

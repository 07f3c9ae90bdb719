"""Strong lottery tickets by proof: masks over random nets that are constructed, not trained, with a certificate of their error.
May import maskbench.common, masks, backbones, data and training.
"""

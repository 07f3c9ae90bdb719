"""One file for each paper's method or baseline, in folders by what it is for; `dense` is training without a mask.

Imports common, masks, backbones, data and training. A method knows neither its task nor Lightning, and overrides no other.
"""

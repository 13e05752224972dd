"""Training a patch encoder on the study's own tiles: self-supervised, or fine-tuned on the slides' labels.

`sampling` draws the tiles and `views` augments them; `contrastive` (SimCLR), `distillation` (DINO) and `fine_tuning`
are the methods; `checks` looks for collapse and measures nearest neighbours; `training` is the loop, and `publication`
writes the result as an entry of an encoder registry.
"""

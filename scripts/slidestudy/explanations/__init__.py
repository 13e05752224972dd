"""How well a written explanation predicts what a model does."""

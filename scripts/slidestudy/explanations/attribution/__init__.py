"""Which pixels of a patch a model's score comes from, and how faithful such maps are to the model."""

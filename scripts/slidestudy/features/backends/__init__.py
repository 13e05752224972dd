"""The libraries that build encoders: each makes a model of an entry, with its weights, and one vector per tile."""

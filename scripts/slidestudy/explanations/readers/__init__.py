"""Readers: who describes a patch, and predicts the model's score from that description and an explanation.

Four kinds share one protocol (`protocol.Reader`): vision-language models behind an endpoint (`openai`) or on this
machine (`transformers`), an image-text model that compares patches with statements (`clip`), and `morphometry`, which
measures instead of looking and follows an explanation's claims to the letter. `building.build_reader` makes each.
"""

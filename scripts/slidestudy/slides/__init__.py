"""Opening slides, finding their resolution, and deciding whether they can be used."""

"""How far external cohorts lie from the development ones: how they were scanned, their stain and their features."""

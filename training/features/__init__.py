"""Interpretable features of ECGs, for models that are no networks."""

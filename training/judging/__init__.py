"""Generated ECGs beside real ones: distances, physiology, novelty, and who can tell."""

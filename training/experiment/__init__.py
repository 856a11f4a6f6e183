"""Which classifiers, which generators, how much of what they generate: a grid of trainings."""

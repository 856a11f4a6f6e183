"""The classifiers that can be trained, a file each; `registry` knows them by name."""

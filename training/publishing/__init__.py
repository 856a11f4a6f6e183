"""Generated ECGs as a data set that can be published."""

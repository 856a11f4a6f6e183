"""Offline: data, models, one loop, evaluation and export. Commands: `python -m training.<verb>`."""

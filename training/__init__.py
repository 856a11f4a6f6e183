"""Offline: data, models, one loop, evaluation and export. Commands: `python -m training.<verb>`."""

import ecg  # noqa: F401 - before ONNX Runtime, for what it says to it

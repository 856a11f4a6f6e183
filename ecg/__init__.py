"""What training and serving must agree on: records, leads, preparation, model cards, the store."""

import os

# ONNX Runtime's own builds otherwise keep a number of this machine and what happens in a model run
# below the user's home, and send them to Microsoft. Only before it is first imported is it asked.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

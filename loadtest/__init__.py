"""Load from outside: HTTP alone, beside what the networks could do on the same machine."""

import os

# As the service has it, for the limit and for the peers: before numpy is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

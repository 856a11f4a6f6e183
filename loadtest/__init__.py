"""Load from outside: HTTP alone, beside what the networks could do on the same machine."""

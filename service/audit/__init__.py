"""The audit: who asked what, when, of which model, and how it ended, in one chain of rows."""

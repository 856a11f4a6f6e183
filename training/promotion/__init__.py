"""A candidate beside what is served, and the verdict."""

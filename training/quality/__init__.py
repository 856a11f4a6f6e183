"""How the quality gate is judged."""

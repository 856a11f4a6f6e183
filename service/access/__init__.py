"""Who may ask what: keys, tokens, the sessions of browsers, and everybody's limits."""

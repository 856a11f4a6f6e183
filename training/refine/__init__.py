"""A generator refined by what raters say of its ECGs, within bounds that no step may break."""

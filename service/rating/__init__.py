"""Studies in which people rate ECGs, real and generated, without knowing which are which."""

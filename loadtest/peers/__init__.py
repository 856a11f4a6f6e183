"""Other servers with the same model, bodies and preparation, each as its documentation has it."""

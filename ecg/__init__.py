"""What training and serving must agree on: records, leads, preparation, model cards, the store."""

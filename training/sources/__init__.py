"""Where labelled ECGs come from: one file a database, each yielding `Labelled` records."""

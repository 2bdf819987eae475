"""Published checkpoints: revisions of a model and named batches into a table of measurements."""

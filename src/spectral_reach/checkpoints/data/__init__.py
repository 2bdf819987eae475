"""A user's files into named batches: one kind of content a file, told by its columns."""

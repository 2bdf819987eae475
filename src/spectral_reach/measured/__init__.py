"""Room 1: a model, a batch and a loss become labelled outputs f, residuals and units."""

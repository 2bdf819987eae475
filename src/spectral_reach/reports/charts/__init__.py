"""One chart a file: from the rows of its static figure's CSV to panels that plotly draws."""

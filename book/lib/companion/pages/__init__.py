"""What each page of results shows: its rows, figures, tables and the sentences computed from them."""

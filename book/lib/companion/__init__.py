"""The Jupyter Book: its pages, and the figures and tables on them."""

"""``python -m sgaplus`` is ``sgaplus``."""

from .cli import main

main()

from .families import register

__all__ = ["register"]

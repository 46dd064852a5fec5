from .search import File, Result, encode_to, series

__all__ = ["File", "Result", "encode_to", "series"]

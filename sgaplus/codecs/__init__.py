"""Pretrained codecs: CompressAI's models behind one adapter, and where their weights come from."""

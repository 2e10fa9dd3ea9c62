"""Bytes become pixels: formats, limits, decoding, colour and geometry. Owns Pillow."""

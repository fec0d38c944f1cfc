"""Candles as a picture: as text, as a page for a browser, or as a PNG."""

"""Engines turn one page into blocks; each model family is a package of its own."""

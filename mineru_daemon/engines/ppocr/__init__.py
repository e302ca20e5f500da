"""The embedded engine: PP-OCRv6 small reads lines; they become blocks.

`models` knows where the weights are, `detection` finds lines, `recognition` reads
them, `lines` puts them in order and makes blocks, `engine` runs the stages.
"""

"""The embedded engine: PP-OCRv6 small reads lines; they become blocks.

`engine` decides which stages a page goes through. Lines of an image are found by
`detection` and read by `recognition`; those of a PDF come from `textlayer`, with the
tables of `digital_tables`. `structure` makes blocks of them with the regions of `layout`,
`image_tables` the inside of tables. `models` knows where the weights are.
"""

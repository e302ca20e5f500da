"""mineru-daemon: a folder of documents in, JSON and Markdown out, on the CPU."""

__version__ = "0.1.0"

"""The engines that are measured, each as a module that `serve` runs in a process of its own.

`serve` and what it imports for the peers are plain files that other interpreters run by
their path: they import nothing of mineru_daemon. `onnx_peer` is the engine of the house.
"""

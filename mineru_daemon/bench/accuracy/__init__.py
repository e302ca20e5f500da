"""What is read and what it costs, beside others: `mineru-daemon bench accuracy SET`.

SET is a folder of documents with ground truth, told by its `manifest.json` (`dataset`). The
metrics are in `text`, `tables` and `facts`; who reads is told in `readers`, how they are asked
in `command`, what is printed in `report`. The metrics need the extra `bench`.
"""

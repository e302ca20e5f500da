"""The engine `mineru`: MinerU2.5-1.2B and its successors on ONNX Runtime, without torch.

image       an image -> patches            rope      positions -> angles
prompt      texts <-> token ids            scale     at which size an image is read
vision      patches -> image tokens        decoder   embeddings -> logits, key-value cache
generate    prompts -> texts, in batches   client    all of it as a `VlmClient`
engine      page -> blocks, by the official two steps
architecture, folder                       what a model folder holds
export/                                    checkpoint -> model folder
"""

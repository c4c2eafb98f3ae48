#!/usr/bin/env python3
"""Print the tensors of a safetensors file, read with Python's own package, as one JSON object.

    read_checkpoint.py FILE
    {NAME: {"shape": [SIZE, ...], "dtype": TYPE, "sum": SUM OF ALL VALUES}}

Exit code 3 where the package is not installed.
"""

import json
import sys

try:
    from safetensors.numpy import load_file
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(3)


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FILE")
    tensors = {
        name: {"shape": tensor.shape, "dtype": str(tensor.dtype), "sum": float(tensor.sum(dtype="float64"))}
        for name, tensor in load_file(sys.argv[1]).items()
    }
    print(json.dumps(tensors, sort_keys=True))


if __name__ == "__main__":
    main()

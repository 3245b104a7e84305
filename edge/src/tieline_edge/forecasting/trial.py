"""A new model's first run, in a process of its own with limits: what crashes, hangs or eats memory does it there.

The child gets manifest, file and seed on its standard input and answers with one line of JSON; it has no other way to speak.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO, Final

from tieline_core.model_manifest import MAX_ONNX_BYTES, MAX_SEED_BYTES
from tieline_edge.forecasting.graph_check import ModelRefusedError
from tieline_edge.forecasting.runtime import LoadModel
from tieline_edge.forecasting.store import verify

#: Longest trial, start of the process included [wall s].
LIMIT_S: Final = 60.0
_CPU_S: Final = 20
#: Of address space: libraries take about half of it.
_MEMORY: Final = 2 * 1024**3
_ANSWER: Final = 4096
_HEAD: Final = struct.Struct(">IIi")
_MOST: Final = (1024 * 1024, MAX_ONNX_BYTES, MAX_SEED_BYTES)
_COMMAND: Final = (sys.executable, "-I", "-m", __name__)


def try_in_child(
    manifest: bytes, onnx: bytes, seed: bytes | None, limit_s: float = LIMIT_S, command: Sequence[str] = _COMMAND
) -> None:
    """Verify a model and run it once, outside this process. Blocks; call it in a thread.

    Raises:
        ModelRefusedError: With the check that failed, or ``run`` when the process crashed or took too long.
    """
    parcel = _HEAD.pack(len(manifest), len(onnx), -1 if seed is None else len(seed)) + manifest + onnx + (seed or b"")
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, input=parcel, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelRefusedError("run", f"a trial run took longer than {limit_s:g} s") from error
    except OSError as error:
        raise ModelRefusedError("run", f"no trial run could be started: {error}") from error
    if done.returncode < 0:
        raise ModelRefusedError("run", f"a trial run was ended by signal {-done.returncode}")
    try:
        answer: Any = json.loads(done.stdout[:_ANSWER])
        refused = answer["refused"]
        check, reason = (None, "") if refused is None else (str(refused[0]), str(refused[1]))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ModelRefusedError("run", f"a trial run ended with code {done.returncode} and no answer") from error
    if check is not None:
        raise ModelRefusedError(check, reason)


def judge(source: BinaryIO) -> dict[str, Any]:
    """The child's work: read a parcel, verify it with a run, and say what came of it."""
    sizes = _HEAD.unpack(source.read(_HEAD.size))
    if any(size > most for size, most in zip(sizes, _MOST, strict=True)) or min(sizes[:2]) < 0:
        return {"refused": ["size", f"{sizes} bytes are more than {_MOST}"]}
    manifest, onnx = source.read(sizes[0]), source.read(sizes[1])
    try:
        verify(manifest, onnx, None if sizes[2] < 0 else source.read(sizes[2]), "", LoadModel)
    except ModelRefusedError as error:
        return {"refused": [error.check, error.reason[:1000]]}
    except MemoryError:
        return {"refused": ["run", f"a trial run wanted more than {_MEMORY >> 20} MB"]}
    return {"refused": None}


def main() -> None:
    """Set the limits, judge, answer."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.write(json.dumps(judge(sys.stdin.buffer)))


if __name__ == "__main__":
    main()

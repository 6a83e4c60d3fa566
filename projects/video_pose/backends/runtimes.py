"""Engines that run a graph's file on the CPU: OpenVINO, ONNX Runtime, PyTorch's programs.

A loaded graph is a function of tensors by name, in the order of the graph's inputs. Tensors go in
without a copy; what comes out is the caller's.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import mmap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from video_pose.modeling.precision import check_precision, has_bfloat16, inference_dtype

logger = logging.getLogger(__name__)
LoadedGraph = Callable[[dict[str, Tensor]], list[Tensor]]
_CPU = torch.device("cpu")
# A graph that runs for so long has a loop without an end.
RUN_SECONDS = 300.0
# What such a loop is called in OpenVINO's graphs.
_LOOPS = {"Loop", "TensorIterator"}
# In the names of ONNX Runtime's operators that run a part of a graph again and again.
_REPEATING = (b"Loop", b"Scan", b"Search", b"Sampling")


def is_installed(engine: str) -> bool:
    """Whether "openvino" or "onnx" can make and run graphs here."""
    needed = {"openvino": ("openvino",), "onnx": ("onnx", "onnxscript", "onnxruntime")}[engine]
    return all(importlib.util.find_spec(name) is not None for name in needed)


@functools.cache
def say_once(message: str) -> None:
    """A line of log, once in a process."""
    logger.warning(message)


def engine_precision(engine: str, precision: str) -> str:
    """What ``precision`` (as TEST.PRECISION) comes to, "float32" or "bfloat16", on this CPU.

    Where the engine or the processor lacks the format it is the next best, which is said once.

    Raises:
        ValueError: an unknown precision.
    """
    dtype = inference_dtype(check_precision(precision), _CPU)
    if engine != "openvino":
        if precision != "auto" and dtype is not None:
            say_once(f"{engine} computes in float32 on a CPU, not in {precision}")
        return "float32"
    if dtype is None:
        return "float32"
    if dtype == torch.float16 or not has_bfloat16():
        usable = "bfloat16" if has_bfloat16() else "float32"
        say_once(f"this CPU has no instructions for {precision}: computing in {usable}")
        return usable
    return "bfloat16"


def load_graph(path: Path, precision: str = "float32", *, trust_programs: bool = False) -> Any:
    """A graph's file as a `LoadedGraph`.

    Args:
        precision: "float32" or "bfloat16", see `engine_precision`.
        trust_programs: load ``.pt2``, which can run any code that its writer wanted.

    Raises:
        ValueError: a package is missing, the file is damaged, or it is ``.pt2`` and not trusted.
    """
    try:
        if path.suffix == ".xml":
            return _naming(path, _load_openvino(path, precision))
        if path.suffix == ".onnx":
            return _naming(path, _load_onnx(path))
        if not trust_programs:
            raise ValueError(
                "PyTorch runs code that is in such a file: export as openvino or onnx, or say that "
                "you trust it (--trust-programs)"
            )
        return _naming(path, _load_program(path))
    except ImportError as error:
        raise ValueError(f"{path.name} needs the package {error.name}: pip install it") from error
    except Exception as error:  # engines raise types of their own on damaged files
        raise ValueError(f"{path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What an engine says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]


def _naming(path: Path, run: LoadedGraph) -> LoadedGraph:
    """``run``, whose errors (of inputs of another shape, as another model has) name the file."""

    def named(inputs: dict[str, Tensor]) -> list[Tensor]:
        try:
            return run(inputs)
        except Exception as error:
            raise ValueError(f"{path} does not run: {_reason(error)}") from error

    return named


@contextlib.contextmanager
def thread_limit(count: int) -> Iterator[None]:
    """Within the block, PyTorch has ``count`` threads, and engines whose graphs are loaded."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def openvino_core() -> Any:
    """OpenVINO's entry, one for the process."""
    import openvino

    return openvino.Core()


def _load_openvino(path: Path, precision: str) -> LoadedGraph:
    core = openvino_core()
    model = core.read_model(path)
    loops = {op.get_type_name() for op in model.get_ops()} & _LOOPS
    if loops:
        raise ValueError(f"it has a {min(loops)}, which no exporter of this project writes")
    compiled = core.compile_model(model, "CPU", openvino_options(precision))
    # Requests are not for two threads at once, as two streams of one predictor may be.
    own = threading.local()
    count = len(compiled.outputs)

    def run(inputs: dict[str, Tensor]) -> list[Tensor]:
        # By place: an input that is put out unchanged goes by two names.
        arrays = [tensor.contiguous().numpy() for tensor in inputs.values()]
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        found = own.request.infer(arrays, share_inputs=True, share_outputs=False)
        return [torch.from_numpy(found[i]) for i in range(count)]

    return run


def openvino_options(precision: str) -> dict[str, Any]:
    """How graphs are compiled: a stream of its own, as many threads as PyTorch has.

    Threads are not pinned: every graph would take the first cores, and two that run at the same
    time, a detector's and a pose network's, would share one.
    """
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,
    }


def _load_onnx(path: Path) -> LoadedGraph:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what is wrong is said by the error
    # The graphs take turns with each other and with PyTorch: threads that wait by spinning hold
    # the cores that the next one, or another process, needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # The exporter leaves out inputs that a graph does not use.
    names = [item.name for item in session.get_inputs()]
    may_loop = _may_loop(path)

    def run(inputs: dict[str, Tensor]) -> list[Tensor]:
        arrays = {name: inputs[name].contiguous().numpy() for name in names}
        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        with _ended_in_time(options) if may_loop else contextlib.nullcontext():
            return [torch.from_numpy(array) for array in session.run(None, arrays, options)]

    return run


def _may_loop(path: Path) -> bool:
    """Whether a graph of ONNX can have a loop, also inside a branch or a function.

    An operator's name stands in the file as it is. Weights that hold the same bytes by chance only
    cost a timer.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(name) >= 0 for name in _REPEATING)


@contextlib.contextmanager
def _ended_in_time(options: Any) -> Iterator[None]:
    """End ONNX Runtime's run with these options after `RUN_SECONDS`; it raises ValueError then."""
    timer = threading.Timer(RUN_SECONDS, lambda: setattr(options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if options.terminate:
            raise ValueError(f"it was ended after {RUN_SECONDS:g} s") from error
        raise
    finally:
        timer.cancel()


def _load_program(path: Path) -> LoadedGraph:
    module = torch.export.load(path).module()

    def run(inputs: dict[str, Tensor]) -> list[Tensor]:
        out = module(*inputs.values())
        return [out] if isinstance(out, Tensor) else list(out)

    return run

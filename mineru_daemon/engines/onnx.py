"""ONNX Runtime sessions that keep to the thread plan. The only module that imports it.

Which models are run, and on what, is left to the engines.

ONNX Runtime's one pool for all sessions (`set_global_thread_pool_sizes`) cannot be told
from Python not to spin: its threads burn a CPU for about 50 ms after every run. So each
session has a pool of its own whose threads sleep between runs, and `Session.run` lets one
session of the process work at a time: of all pools together never more than
`ThreadPlan.intra` threads compute, and none while nothing is read.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from mineru_daemon import cpu
from mineru_daemon.engines import arena, graph_cache
from mineru_daemon.errors import EngineError, MineruError

Array = npt.NDArray[Any]

LOG_FATAL = 4
"""ONNX Runtime's quietest severity. Its errors reach us as exceptions."""

WATCH_SECONDS = 0.5
"""Between two calls of the watcher of a long run."""

LONGEST_RUN_SECONDS = 900.0
"""A run that lasts longer goes round in circles. A page in full size takes MinerU2.5's encoder
77 s on two cores of 2021; on half of one it would take 400."""

LEAST_SHARE = 0.01
"""Of a CPU, that a run takes if it computes at all, however little it is granted."""

_running = threading.Lock()
"""Held by the one session that works; see the module's docstring."""


class Session:
    """A loaded model. Raises `EngineError` if the model cannot be loaded or run."""

    def __init__(
        self,
        model: Path | bytes,
        plan: cpu.ThreadPlan,
        *,
        own_arena: bool = False,
        shrinking: bool = False,
        as_written: bool = False,
        packing: bool = True,
        weights: Mapping[str, Array] | None = None,
        constants: Mapping[str, Array] | None = None,
        kept_in: Path | None = None,
    ) -> None:
        """Load `model`, a file or the content of one; `weights` stand in for files that a
        content names, and are not copied where the model's kernels can use them as they are;
        `constants` for small ones that stand in the model itself, if it has them.

        Its pool has `plan.intra` threads, the caller's among them; within a run they wait awake
        for `plan.spin_microseconds`, between runs they sleep. The memory of a run is kept for the
        next one, of this or another session (of this one only with `own_arena`), or given back
        after it if `shrinking`: for long runs that differ in size (see `run_bound`). A graph that
        is meant to be run `as_written` has its constants folded, but no operators fused. Without
        `packing` weights stay in their file, mapped, and are brought into the kernels' order by
        each run. The optimised graph of a file is kept in the folder `kept_in`, if one is given,
        and loaded from there the next time; the file must hold its weights itself.
        """
        runtime = _runtime(plan)
        options = runtime.SessionOptions()
        # A number given here, unlike the default 0, also keeps ONNX Runtime from pinning
        # its threads to CPUs by their place in the machine, whatever the mask allows.
        options.intra_op_num_threads = plan.intra
        options.inter_op_num_threads = plan.inter
        options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
        levels = runtime.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_BASIC if as_written else levels.ORT_ENABLE_ALL
        )
        # Without it a run takes and leaves twice as much: the C library's heap is torn up.
        options.enable_cpu_mem_arena = True
        options.enable_mem_pattern = False
        if not own_arena:
            arena.use(runtime, options)
        options.log_severity_level = LOG_FATAL
        spin = plan.spin_microseconds
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin > 0)))
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin))
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry("session.disable_prepacking", str(int(not packing)))
        if weights:
            given = [on_cpu(array) for array in weights.values()]
            options.add_external_initializers(list(weights), given)
        # They must live as long as the session.
        self._constants = {name: on_cpu(array) for name, array in (constants or {}).items()}
        for name, value in self._constants.items():
            options.add_initializer(name, value)
        self._runtime = None if own_arena else runtime
        self._name = model.name if isinstance(model, Path) else "in memory"
        self._long_options = functools.partial(_run_options, runtime, shrinking)
        self._run_options = self._long_options()
        self._step_options = _run_options(runtime, shrinking=False)
        try:
            self._session: Any = None
            if kept_in is not None and isinstance(model, Path):
                self._session = _from_kept(runtime, model, options, kept_in)
            if self._session is None:
                self._session = _native(runtime, model, options)
        except Exception as error:
            where = model if isinstance(model, Path) else self._name
            raise EngineError(f"The model {where} cannot be loaded: {_reason(error)}") from error

    @property
    def native(self) -> Any:
        """The `onnxruntime.InferenceSession`, for bindings; run it with `run_bound`."""
        return self._session

    @property
    def name(self) -> str:
        """The model's file name."""
        return self._name

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs, in the model's order."""
        return [one.name for one in self._session.get_inputs()]

    @property
    def optional_inputs(self) -> list[str]:
        """Names of constants of the model that a run may be given others for."""
        return [one.name for one in self._session.get_overridable_initializers()]

    @property
    def metadata(self) -> dict[str, str]:
        """Key-value pairs that the model's maker put into it."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """Run the model; `outputs` None means all of them, in the model's order."""
        try:
            with _running:
                results: list[Array] = self._session.run(outputs, dict(feeds), self._run_options)
        except Exception as error:
            raise EngineError(f"The model {self._name} failed: {_reason(error)}") from error
        return results

    def run_bound(self, binding: Any, watch: Callable[[], object] | None = None) -> None:
        """Run the model on an `IOBinding` made from `native`.

        `watch` is called again and again while a long run makes progress: as long as it takes
        CPU time, and not for ever. What it raises ends the run (after the operator that is
        being computed) and is raised here. A run without `watch` is a short one, after which no
        memory is given back.
        """
        try:
            with _running:
                if watch is None:
                    self._session.run_with_iobinding(binding, self._step_options)
                else:
                    self._run_watched(binding, watch)
        except MineruError:
            raise
        except Exception as error:
            raise EngineError(f"The model {self._name} failed: {_reason(error)}") from error

    def _run_watched(self, binding: Any, watch: Callable[[], object]) -> None:
        """Run in another thread; this one has nothing to do but to watch."""
        options = self._long_options()
        failure: list[BaseException] = []

        def run() -> None:
            try:
                self._session.run_with_iobinding(binding, options)
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=run, name="onnx")
        watch()
        began, used = time.monotonic(), time.process_time()
        thread.start()
        try:
            while thread.is_alive():
                thread.join(WATCH_SECONDS)
                before, used = used, time.process_time()
                lasts = time.monotonic() - began
                if used - before > LEAST_SHARE * WATCH_SECONDS and lasts < LONGEST_RUN_SECONDS:
                    watch()
        except BaseException:
            options.terminate = True
            raise
        finally:
            thread.join()
        if failure:
            raise failure[0]

    def close(self) -> None:
        """Give the model's memory and threads back; the session cannot be used again."""
        self._session = None
        if self._runtime is not None:
            with _running:
                arena.give_back(self._runtime)


def on_cpu(array: Array) -> Any:
    """An `OrtValue` that is the memory of `array` (contiguous), not a copy of it.

    The array must live as long as the binding that the value is put into.
    """
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(array)


def _native(runtime: Any, model: Path | bytes, options: Any) -> Any:
    source = str(model) if isinstance(model, Path) else model
    return runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _from_kept(runtime: Any, model: Path, options: Any, kept_in: Path) -> Any:
    """A session of the optimised graph in a cache; None where there can be none."""

    def optimise(target: Path) -> None:
        options.optimized_model_filepath = str(target)
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", graph_cache.WEIGHTS
        )
        try:
            _native(runtime, model, options)
        finally:
            options.optimized_model_filepath = ""

    level = options.graph_optimization_level
    # Every option that changes the graph has to be among these.
    made_with = (runtime.__version__, str(level))
    graph = graph_cache.graph_of(model, kept_in, made_with, optimise)
    if graph is None:
        return None
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return _native(runtime, graph, options)
    except Exception as error:
        graph_cache.refuse(graph.parent, _reason(error))
        return None
    finally:
        options.graph_optimization_level = level


def _run_options(runtime: Any, shrinking: bool) -> Any:
    options = runtime.RunOptions()
    if shrinking:
        arena.shrinking(options)
    return options


@functools.cache
def _runtime(plan: cpu.ThreadPlan) -> Any:
    """Import ONNX Runtime, quiet and without telemetry; both are read while it loads."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    cpu.limit_libraries(plan)
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            f"ONNX Runtime cannot be loaded, install onnxruntime: {_reason(error)}"
        ) from error
    onnxruntime.set_default_logger_severity(LOG_FATAL)
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def _reason(error: Exception) -> str:
    """The first line of an error's text, without a closing full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__

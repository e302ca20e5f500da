"""Wires the parts together and lives with systemd: start, signals, watchdog, stop.

The main thread does no work of its own. It looks whether the others make progress, says
so to the supervisor, and ends the process when they do not: an engine that hangs in
native code cannot be stopped in any other way.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

import structlog

from mineru_daemon import log, memory, priority
from mineru_daemon.configuration import merge_reloadable
from mineru_daemon.engines import select
from mineru_daemon.engines.keeper import EngineKeeper
from mineru_daemon.errors import EX_SOFTWARE, CancelledError, MineruError
from mineru_daemon.folders import prepare_folders
from mineru_daemon.inbox import Inbox
from mineru_daemon.notify import Notifier
from mineru_daemon.settings import Settings
from mineru_daemon.spool import Spool
from mineru_daemon.status import Status
from mineru_daemon.worker import Worker

TICK_SECONDS = 1.0
"""How often the main thread looks around while something goes on."""

IDLE_TICK_SECONDS = 5.0
"""The same while nothing does."""

LOAD_SECONDS = 180.0
"""What loading the engine may take, as at the start (TimeoutStartSec= of the unit)."""

JOIN_SECONDS = 8.0
"""After the grace time: what a thread gets to write its checkpoint."""

_log = structlog.get_logger()


class Daemon:
    """One daemon's life. `run` returns its exit code."""

    def __init__(self, settings: Settings, reload: Callable[[], Settings]) -> None:
        """`reload` reads the settings again; it may raise ConfigError."""
        self._settings = settings
        self._reload_settings = reload
        self._notifier = Notifier.from_environment(os.environ)
        self._status = Status()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        """Signal handlers put into it. An event would not do: they run in the midst of what
        the main thread does, and if that is waiting for the event they wait for each other."""
        self._stop_asked = False
        self._stop = threading.Event()
        self._reload = False
        self._crash: BaseException | None = None
        self._said = ""

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT. Raises MineruError when it cannot start."""
        self._catch_signals()
        prepare_folders(self._settings)
        with Spool.opened(self._settings) as spool:
            return self._serve(spool)

    def _serve(self, spool: Spool) -> int:
        settings = self._settings
        self._say("starting")
        if refused := priority.apply(settings.priority):
            _log.warning("priority", advice=refused)
        left = spool.recover()
        engine = EngineKeeper(settings)
        began = time.perf_counter()
        engine.warm_up()
        self._status.set(engine=f"{engine.info.name}: {engine.info.model}")
        _log.info(
            "engine-ready",
            engine=engine.info.name,
            model=engine.info.model,
            threads=engine.plan.intra,
            cpus=engine.plan.mask,
            quota=engine.plan.quota,
            seconds=round(time.perf_counter() - began, 3),
        )
        worker = Worker(settings, spool, self._status, engine)
        inbox = Inbox(settings, spool, self._status, worker.offer, worker.has_room)
        worker.on_room = inbox.wake
        worker.before_page = lambda: self._fit(engine)
        worker.on_idle = lambda: self._unload(engine)
        for job in left:
            _log.info("resumed", job=job.id, file=job.path)
            worker.offer(job)
        threads = [
            self._thread("worker", worker.run),
            self._thread("inbox", lambda: inbox.run(self._stop)),
        ]
        _log.info("ready", inbox=str(settings.inbox), outbox=str(settings.outbox), left=len(left))
        self._look_at_grant()
        self._status.set(state="serving")
        self._notifier.ready(self._status.line())
        try:
            self._watch(worker, inbox)
        finally:
            self._shut_down(worker, inbox, threads)
            engine.close()
        if self._crash is not None:
            _log.error("crashed", error=repr(self._crash))
            return EX_SOFTWARE
        return 0

    # --- while it runs -------------------------------------------------------

    def _watch(self, worker: Worker, inbox: Inbox) -> None:
        """Watch over the threads until it is time to stop."""
        watchdog = self._notifier.watchdog_seconds
        while not self._stop_asked:
            self._look_at_grant()
            idle = not self._status.write_to(self._settings.spool)
            if stalled := self._status.stalled(self._settings.stall_seconds):
                self._die(stalled)
            self._notifier.watchdog()
            self._say(self._status.line())
            if self._reload:
                self._reload = False
                self._take_over(worker, inbox)
            tick = IDLE_TICK_SECONDS if idle else TICK_SECONDS
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=min(tick, watchdog / 3 if watchdog else tick))

    def _look_at_grant(self) -> None:
        plan = select.granted(self._settings)
        self._status.set(threads=plan.intra, cpus=plan.mask, cpu_quota=plan.quota)

    def _fit(self, engine: EngineKeeper) -> None:
        """Let the engine follow what is granted; where it cannot, start anew.

        Called by the worker between two pages. The file is no reason, so it is kept as it is.
        """
        try:
            with self._status.beating("worker", LOAD_SECONDS):
                engine.follow()
        except Exception as error:
            self._end_by(error)
            raise CancelledError("The engine cannot be loaded anew.") from error
        self._status.set(unloaded=False)

    def _unload(self, engine: EngineKeeper) -> None:
        """Called by the worker when it has had nothing to do for a while."""
        before = memory.resident_mib()
        engine.unload()
        self._status.set(unloaded=True)
        _log.info(
            "engine-unloaded",
            before_mib=round(before),
            after_mib=round(memory.resident_mib()),
        )

    def _say(self, line: str) -> None:
        if line != self._said:
            self._notifier.status(line)
            self._said = line

    def _die(self, who: str) -> None:
        """End the process: the thread hangs where nothing can reach it."""
        _log.critical(
            "hung",
            thread=who,
            seconds=self._settings.stall_seconds,
            advice="the daemon ends; systemd starts it again, and the file is retried",
        )
        os._exit(EX_SOFTWARE)

    def _take_over(self, worker: Worker, inbox: Inbox) -> None:
        """Read the settings again and take over what can change while running."""
        self._notifier.reloading()
        try:
            fresh = self._reload_settings()
        except MineruError as error:
            for sentence in str(error).splitlines():
                _log.error("reload-refused", error=sentence)
        else:
            merged, taken, left = merge_reloadable(self._settings, fresh)
            self._settings = merged
            log.configure(merged.log_level, merged.log_format)
            worker.settings = merged
            inbox.reload(merged)
            _log.info("reloaded", changed=taken, needs_restart=left)
        self._notifier.ready(self._status.line())

    # --- threads and signals -------------------------------------------------

    def _thread(self, name: str, serve: Callable[[], None]) -> threading.Thread:
        """Start a thread; if it dies of an error the whole daemon stops, and is restarted."""

        def guarded() -> None:
            try:
                serve()
            except BaseException as error:
                _log.exception("thread-died", thread=name)
                self._end_by(error)

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def _end_by(self, error: BaseException) -> None:
        """Stop the whole daemon as one that failed; from any thread."""
        self._crash = error
        self._stop_asked = True
        self._wake.put(None)

    def _shut_down(self, worker: Worker, inbox: Inbox, threads: list[threading.Thread]) -> None:
        self._status.set(state="stopping")
        self._notifier.stopping(self._status.line())
        _log.info("stopping")
        self._stop.set()
        grace = self._settings.stop_seconds
        worker.stop(grace)
        inbox.wake()
        deadline = time.monotonic() + grace + JOIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            # Everything on disk is as after a kill: nothing is lost, the page is read anew.
            _log.warning("stop-forced", threads=[t.name for t in threads if t.is_alive()])
            os._exit(0 if self._crash is None else EX_SOFTWARE)
        self._status.set(state="stopped")
        self._status.write_to(self._settings.spool)
        _log.info("stopped")

    def _catch_signals(self) -> None:
        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stop_asked = True
            self._wake.put(None)

        def reload(_number: int, _frame: FrameType | None) -> None:
            self._reload = True
            self._wake.put(None)

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGHUP, reload)
        # The kernel's word that somebody wants to write to a file under a read lease
        # (storage.open_for_writing_elsewhere); by default it would end the process.
        signal.signal(signal.SIGIO, signal.SIG_IGN)

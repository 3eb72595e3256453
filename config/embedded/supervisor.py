"""Keeping the parts alive, and ending them in order."""

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

from config.embedded.process import StartProblemError, describe_end, sentence_case

SHORTEST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
# A part that lived this long was healthy: its next death starts with the shortest pause again.
HEALTHY_SECONDS = 60.0
GLANCE_SECONDS = 0.2


class Part(Protocol):
    """What the supervisor needs to know of a part."""

    child: subprocess.Popen[bytes] | None

    def launch(self) -> None: ...
    def wait_ready(self, patience: float = ...) -> None: ...
    def is_running(self) -> bool: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


class StopRequestedError(Exception):
    """Somebody asked us to stop: Ctrl-C, SIGTERM, or the terminal was closed."""


@dataclass
class Watched:
    """A part with the story of its restarts."""

    name: str
    part: Part
    launched_at: float = field(default_factory=time.monotonic)
    pause: float = SHORTEST_PAUSE
    restart_at: float | None = None


class Supervisor:
    """Starts parts, restarts those that die, stops all. All of it in the main thread: see `process.spawn`."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.watched: list[Watched] = []
        self._stopping = False

    def catch_signals(self) -> None:
        """From here on, Ctrl-C and SIGTERM raise StopRequestedError once; while stopping, a second one hastens."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores it on purpose
                signal.signal(number, self._on_signal)

    def launch(self, name: str, part: Part) -> None:
        """Start a part; it is stopped in the reverse order of the launches."""
        self.watched.append(Watched(name, part))
        part.launch()

    def watch(self) -> None:
        """Restart what dies, until StopRequestedError."""
        while True:
            self.glance()
            time.sleep(GLANCE_SECONDS)

    def glance(self) -> None:
        """Look at each part once: note a death, or restart what has waited long enough."""
        for watched in self.watched:
            self._look_after(watched)

    def check(self) -> None:
        """Raise when a part has died during the start, when restarting it would hide what is wrong."""
        for watched in self.watched:
            if not watched.part.is_running():
                watched.part.wait_ready(0)

    def stop(self) -> None:
        """Stop all, last launched first."""
        self._stopping = True
        for watched in reversed(self.watched):
            watched.part.stop()
        self.watched.clear()

    def _look_after(self, watched: Watched) -> None:
        now = time.monotonic()
        if watched.restart_at is None:
            if not watched.part.is_running():
                self._plan_restart(watched, now)
        elif now >= watched.restart_at:
            self._restart(watched, now)

    def _plan_restart(self, watched: Watched, now: float) -> None:
        end = describe_end(watched.part.child)
        watched.part.kill()  # what it started may have outlived it
        if now - watched.launched_at > HEALTHY_SECONDS:
            watched.pause = SHORTEST_PAUSE
        self.say(f"{sentence_case(watched.name)} has ended ({end}); it is started again in {watched.pause:g} s.")
        watched.restart_at = now + watched.pause
        watched.pause = min(watched.pause * 2, LONGEST_PAUSE)

    def _restart(self, watched: Watched, now: float) -> None:
        try:
            watched.part.launch()
        except StartProblemError as problem:
            self.say(f"{problem} The next attempt is in {watched.pause:g} s.")
            watched.restart_at = now + watched.pause
            watched.pause = min(watched.pause * 2, LONGEST_PAUSE)
        else:
            watched.launched_at = time.monotonic()
            watched.restart_at = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._stopping:
            self._stopping = True
            raise StopRequestedError
        self.say("Stopping at once.")
        for watched in self.watched:
            watched.part.kill()

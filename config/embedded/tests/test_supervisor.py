import os
import signal
import subprocess
import time

import pytest

from config.embedded import command, supervisor
from config.embedded.command import CommandPart, stop_leftovers
from config.embedded.process import StartProblemError, wait_until
from config.embedded.supervisor import StopRequestedError, Supervisor


@pytest.fixture(autouse=True)
def own_mark(home, monkeypatch):
    monkeypatch.setattr(command, "DATA_DIR", home)


@pytest.fixture
def said():
    return []


@pytest.fixture
def watcher(said, monkeypatch):
    monkeypatch.setattr(supervisor, "SHORTEST_PAUSE", 0.05)
    watcher = Supervisor(said.append)
    yield watcher
    watcher.stop()


def part(home, name="the sleeper", *words):
    return CommandPart(name, words or ("sleep", "60"), log=home / f"{name}.log", patience=5)


def kill(part):
    os.kill(part.child.pid, signal.SIGKILL)
    assert wait_until(lambda: not part.is_running(), patience=5)


def test_a_part_that_dies_is_started_again_and_one_line_says_so(watcher, said, home):
    sleeper = part(home)
    watcher.launch("the sleeper", sleeper)
    watcher.glance()
    assert said == []
    kill(sleeper)
    assert wait_until(lambda: watcher.glance() or sleeper.is_running(), patience=5)
    assert said == [
        f"The sleeper has ended (killed by signal 9); it is started again in {watcher.watched[0].pause / 2:g} s."
    ]


def test_each_death_is_followed_by_a_longer_pause(watcher, said, home):
    sleeper = part(home, "the sleeper", "sh", "-c", "exit 3")
    watcher.launch("the sleeper", sleeper)
    assert wait_until(lambda: watcher.glance() or len(said) >= 2, patience=10)
    pauses = [float(line.split(" in ")[1].removesuffix(" s.")) for line in said]
    assert pauses[1] == pauses[0] * 2
    assert "exit code 3" in said[0]


def test_a_part_that_cannot_be_started_is_tried_again(watcher, said, home, monkeypatch):
    sleeper = part(home)
    watcher.launch("the sleeper", sleeper)
    kill(sleeper)

    def refuse():
        monkeypatch.undo()
        raise StartProblemError("The disk is full.")

    monkeypatch.setattr(sleeper, "launch", refuse)
    assert wait_until(lambda: watcher.glance() or len(said) >= 2, patience=5)
    assert said[1].startswith("The disk is full. The next attempt is in ")


def test_a_part_that_dies_during_the_start_ends_the_start(watcher, home):
    broken = part(home, "the web server", "sh", "-c", "echo no such thing; exit 1")
    watcher.launch("the web server", broken)
    assert wait_until(lambda: not broken.is_running(), patience=5)
    with pytest.raises(StartProblemError, match=r"^The web server did not start; .* says: no such thing$"):
        watcher.check()


def test_what_a_dead_part_had_started_goes_with_it(watcher, said, home):
    leader = part(home, "the leader", "sh", "-c", "sleep 61 & echo $!; wait")
    watcher.launch("the leader", leader)
    log = home / "the leader.log"
    assert wait_until(lambda: log.exists() and log.read_text().strip() != "", patience=5)
    follower = int(log.read_text())
    kill(leader)
    watcher.glance()
    assert wait_until(lambda: not alive(follower), patience=5)


def test_the_last_started_is_the_first_stopped(watcher, home):
    order = []
    for name in ("first", "second", "third"):
        sleeper = part(home, name)
        watcher.launch(name, sleeper)
        sleeper.stop = lambda name=name, stop=sleeper.stop: (order.append(name), stop())
    watcher.stop()
    assert order == ["third", "second", "first"]


def test_the_first_signal_asks_and_the_second_hastens(watcher, said, home):
    stubborn = part(home, "the stubborn", "sh", "-c", "trap '' TERM; echo here; while :; do sleep 0.1; done")
    stubborn.patience = 60
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    watcher.launch("the stubborn", stubborn)
    assert wait_until(lambda: (home / "the stubborn.log").read_text() != "", patience=5)
    hurried = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -INT {os.getpid()}"])
    try:
        watcher.catch_signals()
        with pytest.raises(StopRequestedError):
            signal.raise_signal(signal.SIGINT)
        before = time.monotonic()
        watcher.stop()
    finally:
        hurried.wait()
        for number, handler in previous.items():
            signal.signal(number, handler)
    assert time.monotonic() - before < 30
    assert said == ["Stopping at once."]


def test_what_a_killed_supervisor_left_is_found_by_its_mark(home):
    left, strange = part(home), subprocess.Popen(["sleep", "60"])
    try:
        left.launch()
        assert wait_until(lambda: stop_leftovers() == 1, patience=5)
        assert not left.is_running()
        assert strange.poll() is None
        assert stop_leftovers() == 0
    finally:
        strange.kill()
        strange.wait()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False

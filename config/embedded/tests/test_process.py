import os
import signal
import subprocess
import sys
import time
from collections import namedtuple

import psutil
import pytest

from config.embedded import process
from config.embedded.process import StartProblemError

PARENT = """
import sys, time
from pathlib import Path
from config.embedded.process import spawn
print(spawn(["sleep", "60"], log=Path(sys.argv[1])).pid, flush=True)
time.sleep(60)
"""


def test_a_child_does_not_outlive_a_parent_that_was_killed(tmp_path):
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    # Where nobody reaps orphans, it stays as a zombie, which does no harm.
    assert process.wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, patience=5)


def test_ctrl_c_in_the_terminal_does_not_reach_a_child(tmp_path):
    child = process.spawn(["sleep", "60"], log=tmp_path / "log")
    try:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
    finally:
        child.kill()
        child.wait()
    assert process.describe_end(child) == "killed by signal 9"


def test_stopping_says_whether_it_worked(tmp_path):
    deaf = process.spawn(["sh", "-c", "trap '' TERM; echo deaf; sleep 60 & wait; sleep 60"], log=tmp_path / "log")
    assert process.wait_until(lambda: "deaf" in (tmp_path / "log").read_text(), patience=5)
    assert not process.stop(deaf, signal.SIGTERM, patience=0.1)
    os.killpg(deaf.pid, signal.SIGKILL)
    assert process.stop(deaf, signal.SIGTERM, patience=5)


def test_a_log_that_has_grown_too_large_starts_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "LOG_LIMIT", 10)
    log = tmp_path / "logs" / "x.log"
    for expected in (6, 12, 6):
        with process.open_log(log) as file:
            file.write(b"line.\n")
        assert log.stat().st_size == expected


def test_the_end_of_a_log_is_told_in_one_line(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("before\n")
    start = log.stat().st_size
    log.write_text("before\none\n\n two\nthree\nfour\n")
    assert process.log_tail(log, since=start) == "two / three / four"
    assert process.log_tail(tmp_path / "none") == ""


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(process.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 5 * process.MEGABYTE))
    process.need_space(tmp_path, 5)
    with pytest.raises(
        StartProblemError, match=r"^The disk is full: .* has 5 MB left, and 6 MB are needed to start\.$"
    ):
        process.need_space(tmp_path, 6)


def test_waiting_ends_when_patience_does():
    before = time.monotonic()
    assert not process.wait_until(lambda: False, patience=0.1)
    assert time.monotonic() - before < 5

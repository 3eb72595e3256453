"""`manage.py up` as a person starts it: whole installations, on data directories and ports of their own."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time

import httpx
import openai
import psutil
import pytest

from config.embedded.paths import REPOSITORY
from config.embedded.process import wait_until

READY = "Mainstay is ready."
HELLO = [{"role": "user", "content": "Say hello."}]
PARTS = {
    "PostgreSQL": "bin/postgres",
    "Redis": "bin/redis-server",
    "The model server": "config.embedded.modelserver",
    "The worker": "worker",
    "The beat": "beat",
    "The web server": "config.serve",
}


class Installation:
    """One `manage.py up`, with everything that it prints."""

    def __init__(self, environment, home):
        self.environment = environment
        self.home = home
        self.output = home / "output"
        self.process = None

    def start(self):
        with self.output.open("w") as output:
            command = [sys.executable, "manage.py", "up"]
            self.process = subprocess.Popen(command, cwd=REPOSITORY, env=self.environment, stdout=output, stderr=output)
        assert wait_until(lambda: READY in self.said or self.process.poll() is not None, patience=90, pause=0.1)
        assert self.process.poll() is None, self.said

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    @property
    def said(self):
        return self.output.read_text()

    @property
    def facts(self):
        return json.loads((self.home / "data" / "up.json").read_text())

    def part(self, words):
        for child in psutil.Process(self.process.pid).children():
            try:
                if words in " ".join(child.cmdline()):
                    return child
            except psutil.Error:
                continue
        return None

    def is_ready(self):
        try:
            return httpx.get(f"{self.facts['base_url']}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def chat(self):
        with openai.OpenAI(base_url=f"{self.facts['base_url']}/v1", api_key=self.facts["api_key"]) as client:
            return list(client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=4, stream=True))

    def requests_recorded(self):
        headers = {"Authorization": f"Bearer {self.facts['api_key']}"}
        return len(httpx.get(f"{self.facts['base_url']}/api/v1/requests", headers=headers).json()["results"])


@pytest.fixture
def installation(bare_environment, home):
    installation = Installation(bare_environment, home)
    yield installation
    for process in processes_of(home):
        process.kill()
    if installation.process is not None:
        installation.process.wait(10)


def processes_of(home):
    """Every process of an installation, however it was started."""
    found = []
    for process in psutil.process_iter():
        try:
            if f"MAINSTAY_DATA_DIR={home}" in "\0".join(f"{k}={v}" for k, v in process.environ().items()):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE]


def run_up(environment):
    return subprocess.run(
        [sys.executable, "manage.py", "up"], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60
    )


def test_from_nothing_to_an_answer_and_a_clean_end(installation, home):
    installation.start()
    facts = installation.facts
    assert stat.S_IMODE((home / "data" / "up.json").stat().st_mode) == 0o600
    assert facts["pid"] == installation.process.pid
    assert facts["operator_password"] in installation.said
    assert facts["api_key"] in installation.said
    assert installation.chat()
    assert installation.stop() == 0
    assert "Traceback" not in installation.said
    assert installation.facts == facts | {"pid": None}
    assert processes_of(home) == []


def test_a_busy_port_is_one_sentence_and_exit_code_1(bare_environment):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        result = run_up(bare_environment | {"PORT": str(port)})
    assert result.returncode == 1
    assert re.fullmatch(rf"Port {port} is in use by another program: .*\n", result.stderr)


def test_a_data_directory_that_cannot_be_made_is_one_sentence_and_exit_code_1(bare_environment):
    result = run_up(bare_environment | {"MAINSTAY_DATA_DIR": "/proc/mainstay"})
    assert result.returncode == 1
    assert re.fullmatch(r"/proc/mainstay cannot be used \(.*\): make it writable, .*\n", result.stderr)
    assert result.stdout == ""


@pytest.mark.drill
@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_is_killed_comes_back(installation, name):
    installation.start()
    installation.chat()
    victim = installation.part(PARTS[name])
    victim.kill()
    assert wait_until(lambda: f"{name} has ended (killed by signal 9)" in installation.said, patience=10)

    def is_back():
        now = installation.part(PARTS[name])
        return now is not None and now.pid != victim.pid and installation.is_ready()

    assert wait_until(is_back, patience=60, pause=0.2)
    assert wait_until(lambda: answers(installation), patience=30, pause=0.5)
    assert installation.stop() == 0


@pytest.mark.drill
@pytest.mark.parametrize("everything", [False, True])
def test_after_a_kill_the_next_start_has_lost_nothing(installation, home, everything):
    installation.start()
    facts = installation.facts
    for _ in range(3):
        installation.chat()
    assert wait_until(lambda: installation.requests_recorded() == 3, patience=10)
    for process in processes_of(home) if everything else [installation.process]:
        process.kill()
    installation.process.wait(10)
    installation.start()
    assert installation.facts == facts | {"pid": installation.process.pid}
    assert facts["api_key"] not in installation.said
    assert installation.requests_recorded() == 3
    installation.chat()
    assert installation.stop() == 0
    assert processes_of(home) == []


@pytest.mark.drill
def test_lost_credentials_are_made_anew(installation, home):
    installation.start()
    before = installation.facts
    assert installation.stop() == 0
    (home / "data" / "up.json").unlink()
    installation.start()
    after = installation.facts
    assert after["api_key"] != before["api_key"]
    assert after["operator_password"] != before["operator_password"]
    installation.chat()
    assert installation.stop() == 0


@pytest.mark.drill
def test_a_second_up_is_refused_and_disturbs_nothing(installation):
    installation.start()
    result = run_up(installation.environment)
    assert result.returncode == 1
    assert re.fullmatch(
        rf"Mainstay is running already on .* \(process {installation.process.pid}\): .*\n", result.stderr
    )
    installation.chat()
    assert installation.stop() == 0


@pytest.mark.drill
@pytest.mark.parametrize("seconds", [0.5, 1, 1.5, 2, 3])
def test_it_can_be_stopped_while_it_starts(installation, home, seconds):
    with installation.output.open("w") as output:
        command = [sys.executable, "manage.py", "up"]
        process = subprocess.Popen(command, cwd=REPOSITORY, env=installation.environment, stdout=output, stderr=output)
    installation.process = process
    wait_until(lambda: "Mainstay starts" in installation.said, patience=30)
    time.sleep(seconds)
    assert installation.stop() == 0
    assert "Traceback" not in installation.said
    assert processes_of(home) == []


@pytest.mark.drill
@pytest.mark.parametrize("megabytes", [8, 100])
def test_a_full_disk_is_one_sentence(bare_environment, home, megabytes):
    disk = home / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", disk], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no right to mount a small disk")
    try:
        result = run_up(bare_environment | {"MAINSTAY_DATA_DIR": str(disk / "data")})
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    assert result.returncode == 1
    assert re.fullmatch(r"The disk is full: .* are needed to start\.\n", result.stderr)


@pytest.mark.drill
def test_the_curl_of_the_banner_works_when_pasted(installation):
    for _ in range(2):  # with the key in it, and later with the key in the file
        installation.start()
        curl = next(line for line in installation.said.splitlines() if line.startswith("  curl "))
        result = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=60)
        assert result.stdout.rstrip().endswith("data: [DONE]"), result.stderr
        assert installation.stop() == 0


def answers(installation):
    try:
        return bool(installation.chat())
    except openai.APIError:
        return False

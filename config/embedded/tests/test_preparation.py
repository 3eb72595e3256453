import errno
import os
import socket

import pytest

from config.embedded import preparation
from config.embedded.process import StartProblemError


@pytest.fixture(autouse=True)
def own_files(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "MODELS_PORT_FILE", tmp_path / "models.port")
    monkeypatch.delenv("MODELS_PORT", raising=False)


def test_two_at_once_on_one_data_directory_are_one_too_many(tmp_path):
    held = preparation.lock(tmp_path / "up.lock")
    with pytest.raises(StartProblemError, match=rf"running already on .* \(process {os.getpid()}\): stop it first"):
        preparation.lock(tmp_path / "up.lock")
    held.close()
    preparation.lock(tmp_path / "up.lock").close()


def test_a_busy_port_is_one_sentence():
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(StartProblemError, match=rf"^Port {port} is in use by another program: .*PORT=…$"):
            preparation.require_free_port("127.0.0.1", port, "PORT")
    preparation.require_free_port("127.0.0.1", port, "PORT")


def test_an_address_of_another_machine_is_one_sentence():
    with pytest.raises(StartProblemError, match=r"^Nobody can listen on 192\.0\.2\.1:8000 here .*: choose"):
        preparation.require_free_port("192.0.2.1", 8000, "PORT")


@pytest.mark.parametrize("value", ["0", "65536", "-1", "eight", "٨", "80 "])
def test_a_senseless_port_is_one_sentence(value, monkeypatch):
    monkeypatch.setenv("PORT", value)
    with pytest.raises(StartProblemError, match=r"^PORT must be a number from 1 to 65535, not "):
        preparation.read_port("PORT", 8000)


def test_the_models_port_stays_the_same_while_it_is_free():
    port = preparation.models_port()
    assert preparation.models_port() == port
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", port))
        busy.listen()
        assert preparation.models_port() != port


def test_the_environment_chooses_the_models_port(monkeypatch):
    monkeypatch.setenv("MODELS_PORT", "8222")
    assert preparation.models_port() == 8222


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "The disk is full: "),
        (errno.EDQUOT, "The disk is full: "),
        (errno.EACCES, "/x/y cannot be used (Permission denied): make it writable"),
        (errno.EROFS, "/x/y cannot be used (Read-only file system): make it writable"),
    ],
)
def test_a_failed_file_operation_is_one_sentence(number, sentence):
    explained = preparation.explain_os_error(OSError(number, os.strerror(number), "/x/y"))
    assert explained.startswith(sentence)
    assert "\n" not in explained

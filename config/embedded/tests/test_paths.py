import base64
import json
import stat
from pathlib import Path

import pytest

from config.embedded import paths


@pytest.fixture
def secrets_file(tmp_path, monkeypatch):
    file = tmp_path / "data" / "secrets.json"
    monkeypatch.setattr(paths, "SECRETS_FILE", file)
    return file


def test_there_are_no_secrets_before_they_are_made(secrets_file):
    assert paths.secrets() == {}


def test_secrets_are_made_once_and_only_their_owner_reads_them(secrets_file):
    made = paths.ensure_secrets()
    assert paths.ensure_secrets() == made == paths.secrets()
    assert stat.S_IMODE(secrets_file.stat().st_mode) == 0o600
    assert [file.name for file in secrets_file.parent.iterdir()] == ["secrets.json"]


def test_every_secret_is_long_and_another(secrets_file, tmp_path, monkeypatch):
    made = paths.ensure_secrets()
    assert set(made) == {"SECRET_KEY", "JWT_SECRET_KEY", "FIELD_ENCRYPTION_KEYS"}
    assert len(base64.urlsafe_b64decode(made["FIELD_ENCRYPTION_KEYS"])) == 32
    assert min(map(len, made.values())) >= 44
    monkeypatch.setattr(paths, "SECRETS_FILE", tmp_path / "other.json")
    assert not set(made.values()) & set(paths.ensure_secrets().values())


def test_a_secret_that_is_new_in_this_version_joins_the_old_ones(secrets_file):
    secrets_file.parent.mkdir()
    secrets_file.write_text(json.dumps({"SECRET_KEY": "old"}))
    assert paths.ensure_secrets()["SECRET_KEY"] == "old"
    assert set(paths.secrets()) == {"SECRET_KEY", "JWT_SECRET_KEY", "FIELD_ENCRYPTION_KEYS"}


def test_sockets_stay_with_the_data_while_the_kernel_takes_their_path():
    assert paths.short_socket_dir(Path("/srv/mainstay")) == Path("/srv/mainstay/run")


def test_sockets_of_a_deep_directory_go_to_a_short_place_of_their_own():
    deep, deeper = Path("/srv/" + "x" * 90), Path("/srv/" + "x" * 91)
    assert len(str(paths.short_socket_dir(deep) / ".s.PGSQL.5432")) <= 107
    assert paths.short_socket_dir(deep).parent == Path("/tmp")
    assert paths.short_socket_dir(deep) != paths.short_socket_dir(deeper)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("unix:///x/redis.sock?db=0", "redis+socket:///x/redis.sock?virtual_host=0"),
        ("redis://host:6379/1", "redis://host:6379/1"),
    ],
)
def test_celery_writes_sockets_in_its_own_way(url, expected):
    assert paths.celery_url(url) == expected

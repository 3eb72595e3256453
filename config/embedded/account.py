"""The unprivileged account under which the servers run when Mainstay is started by root.

PostgreSQL refuses to run as root, and nothing that parses bytes from a socket should.
"""

import functools
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

from config.embedded.process import StartProblemError

NAME = "mainstay"
READ_AND_RUN = stat.S_IROTH | stat.S_IXOTH

# Directories that `let_pass` has changed.
opened: list[Path] = []


@functools.cache
def service_account() -> pwd.struct_passwd | None:
    """The account for the servers, made when it is missing; None when we are not root and they run as ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(NAME)
    except KeyError:
        _create()
        return pwd.getpwnam(NAME)


def _create() -> None:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is None:
        message = f"Started by root, the servers need the system user '{NAME}', and there is no useradd to make it."
        raise StartProblemError(message)
    command = [useradd, "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", NAME]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode not in (0, 9):  # 9: another start has just made it
        message = f"The system user '{NAME}' for the servers could not be made: {result.stderr.strip()}"
        raise StartProblemError(message)


def uid_gid() -> tuple[int, int] | None:
    """What to hand to `process.spawn`."""
    account = service_account()
    return None if account is None else (account.pw_uid, account.pw_gid)


def own_directory(directory: Path) -> None:
    """Make `directory` exist, belong to the servers' account, and be closed (0700) to everybody else."""
    ids = uid_gid() or (os.geteuid(), os.getegid())
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.geteuid(), ids[0]}:
        # In /tmp anybody may have made it first, to listen in our place.
        message = f"{directory} belongs to another user: remove it, or choose another MAINSTAY_DATA_DIR."
        raise StartProblemError(message)
    if os.geteuid() == 0:
        os.chown(directory, *ids)
    directory.chmod(0o700)


def let_pass(*paths: Path) -> None:
    """Let the servers' account reach `paths`: add o+x, the right to pass but not to look, to the closed parents.

    Needed only when root keeps the repository below a directory such as /root, which nobody else may enter. What was
    changed is kept in `opened`, for `manage.py up` to say so.
    """
    if service_account() is None:
        return
    for path in paths:
        for parent in path.resolve().parents:
            mode = parent.stat().st_mode
            if not mode & stat.S_IXOTH:
                parent.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
                opened.append(parent)


def let_read(program: Path, *trees: Path) -> None:
    """Let the servers' account read and run an installed `program` with its `trees`, when a umask has closed them."""
    if service_account() is None or program.stat().st_mode & READ_AND_RUN == READ_AND_RUN:
        return
    for tree in trees:
        for path in [tree, *tree.rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | mode >> 6 & READ_AND_RUN)

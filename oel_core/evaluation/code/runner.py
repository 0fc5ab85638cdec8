"""Runs one untrusted function in a process of its own: started by `sandbox`, never imported.

Reads `{"code", "function", "cases"}` from standard input and writes `{"values": [...]}` or `{"error": "..."}` to
standard output. Limits are set and an audit hook is installed before the code runs: no network, no
processes, no foreign code, no writing, and no reading outside Python's own library. The hook is no proof against a
determined attacker; the limits and the empty environment hold in any case.
"""

import json
import os
import resource
import sys

SECONDS, MEMORY = 2, 512 * 2**20
FORBIDDEN = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.kill", "os.putenv",
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate",
    "shutil.", "ctypes.", "pty.", "webbrowser.", "urllib.", "ftplib.", "http.", "smtplib.", "mmap.", "fcntl.",
    "signal.", "resource.", "sys.addaudithook",
)  # fmt: skip
LIBRARY = tuple(os.path.realpath(path) for path in {sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)})


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """The audit hook."""
    if event.startswith(FORBIDDEN):
        raise PermissionError(f"{event} is not allowed here")
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        known = isinstance(path, str | bytes) and os.path.realpath(os.fsdecode(path)).startswith(LIBRARY)
        if writes or not known:
            raise PermissionError("files are not allowed here")


def limit() -> None:
    """Limits CPU seconds, memory, open files and core dumps."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Runs one task."""
    task = json.load(sys.stdin)
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the code prints is dropped
    limit()
    sys.addaudithook(refuse)
    try:
        space: dict[str, object] = {"__name__": "answer"}
        exec(compile(task["code"], "answer", "exec"), space)
        function = space[task["function"]]
        values = [function(*case) for case in task["cases"]]  # type: ignore[operator]
        found = json.dumps({"values": values}, allow_nan=False)
    except BaseException as error:  # the code may raise anything, SystemExit too
        found = json.dumps({"error": f"{type(error).__name__}: {error}"[:300]})
    os.write(answer, found.encode())


if __name__ == "__main__":
    main()

"""Run a command that cannot outlive its starter: `python guard.py FD COMMAND [ARGUMENT ...]`.

FD is the reading end of a pipe whose writing end only the starter holds. A watcher, forked off
before the command begins and outside its process group, waits on it: when the starter dies, in
whatever way, the pipe ends and the watcher kills the command's whole group. This also reaches
grandchildren and commands stuck in native code, and unlike PR_SET_PDEATHSIG it does not fire when
merely the *thread* that started the command ends. Standard library only: it runs in any Python.
"""

import contextlib
import os
import signal
import sys

GOODBYE = b"q"
_MANY_DESCRIPTORS = 4096


def main(arguments: list[str]) -> None:
    """Fork the watcher, then become the command. The caller made this process a group's leader."""
    lifeline = int(arguments[0])
    group = os.getpid()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork() == 0:
            watch(lifeline, group)
        os._exit(0)
    os.waitpid(middle, 0)
    os.close(lifeline)
    os.execv(arguments[1], arguments[1:])  # noqa: S606 - an argument list, no shell


def watch(lifeline: int, group: int) -> None:
    """Wait for the starter's goodbye or its death; kill the group on death. Never returns."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    os.closerange(0, lifeline)
    os.closerange(lifeline + 1, lifeline + _MANY_DESCRIPTORS)
    os.chdir("/")
    if os.read(lifeline, 1) != GOODBYE:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])

"""What ends a process once the one that has started it is gone, however that ended: by SIGKILL, too."""

import subprocess


class Lifeline:
    """Ends a process and its group as soon as this process has ended, however that ends.

    A shell waits for the other end of a pipe, which closes by itself, and does it then.
    """

    def __init__(self, pid: int) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", f"read _; kill -s KILL -- -{pid} {pid}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is not for it
        )

    def end(self) -> None:
        """Let the shell do nothing: the process has ended, and its id may become that of another one."""
        self._shell.kill()
        self._shell.communicate()

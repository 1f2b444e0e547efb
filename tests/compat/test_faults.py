"""The daemon is killed and clients vanish at the worst moments: nothing is left, nobody else is hurt."""

import os
import socket
import time

from daemon import wait_for
from e2b import Sandbox
from plain import at_rest


def test_a_client_that_leaves_during_a_creation(own_daemon):
    """Whether the sandbox comes up or not, no trace of it is unaccounted for: what runs is listed, and can be killed."""
    host, port = own_daemon.api.rsplit(":", 1)
    for delay in range(20):
        body = b'{"templateID":"base","timeout":60}'
        with socket.create_connection((host, int(port))) as client:
            client.sendall(
                b"POST /sandboxes HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx-api-key: %s\r\ncontent-length: %d\r\n\r\n%s"
                % (own_daemon.key.encode(), len(body), body)
            )
            time.sleep(delay * 0.002)

    def settled():
        listed = {sandbox.sandbox_id for sandbox in Sandbox.list(limit=100).next_items()}
        return listed == set(os.listdir(own_daemon.data / "sandboxes"))

    wait_for(settled, 60, "every directory to belong to a listed sandbox")
    for sandbox in Sandbox.list(limit=100).next_items():
        assert Sandbox.kill(sandbox.sandbox_id)
    wait_for(lambda: at_rest(own_daemon), 60, "all to be gone")


def test_one_sandbox_cannot_use_up_what_the_kernel_counts_by_user(own_daemon):
    """The kernel counts inotify instances and pending signals for each user, and for whoever owns the user's namespace."""
    greedy = """
import ctypes, os, signal, time
libc = ctypes.CDLL(None)
while libc.inotify_init1(0) >= 0: pass
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
libc.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
while libc.sigqueue(os.getpid(), 40, None) == 0: pass
open('/tmp/full', 'w').close()
time.sleep(600)
"""
    modest = """
import ctypes, os, signal
libc = ctypes.CDLL(None)
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
libc.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
print(libc.inotify_init1(0) >= 0, [libc.sigqueue(os.getpid(), 40, None) for _ in range(8)])
"""
    first, second = Sandbox.create(timeout=120), Sandbox.create(timeout=120)
    first.files.write("/tmp/greedy.py", greedy)
    second.files.write("/tmp/modest.py", modest)
    first.commands.run("python3 /tmp/greedy.py", user="root", background=True, timeout=0)
    wait_for(lambda: first.files.exists("/tmp/full"), 30, "everything to be used up")
    assert second.commands.run("python3 /tmp/modest.py").stdout.strip() == f"True {[0] * 8}"
    watched = second.files.watch_dir(".")
    second.files.write("seen", "")
    wait_for(watched.get_new_events, 10, "a watcher in another sandbox to work")
    first.kill(), second.kill()

"""An echo server inside a sandbox: the `websockets` package of the tests, as it is."""

import io
import socket
import tarfile
from pathlib import Path

import websockets
from daemon import wait_for
from websockets.sync.client import connect

ECHO = """
import sys
sys.path.insert(0, "/tmp/packages")
from websockets.sync.server import serve

def echo(socket):
    for message in socket:
        if message == "close":
            return socket.close(4321, "as asked")
        socket.send(message)

with serve(echo, "127.0.0.1", 8765, max_size=None) as server:
    server.serve_forever()
"""


def open_echo(daemon, sandbox, **options):
    address, port = daemon.proxy.rsplit(":", 1)
    to = socket.create_connection((address, int(port)), timeout=30)
    return connect(f"ws://8765-{sandbox.sandbox_id}.localhost:{port}/", sock=to, max_size=None, legacy=True, **options)


def serve_echo(daemon, sandbox):
    """Starts it on port 8765 and waits until it answers."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(Path(websockets.__file__).parent, "websockets", filter=lambda f: None if "__pycache__" in f.name else f)
    sandbox.files.write("/tmp/packages.tar", packed.getvalue())
    sandbox.files.write("/tmp/echo.py", ECHO)
    sandbox.commands.run("mkdir /tmp/packages && tar -C /tmp/packages -xf /tmp/packages.tar")
    sandbox.commands.run("python3 /tmp/echo.py", background=True, timeout=0)

    def answers():
        try:
            open_echo(daemon, sandbox).close()
            return True
        except websockets.InvalidStatus:
            return False

    wait_for(answers, 30, "the echo server")

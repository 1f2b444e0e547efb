"""E2B_DEBUG=true: the SDKs use whatever is on this machine's ports, which `atoll sandbox forward` makes those of a sandbox."""

import os
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from daemon import BIN, wait_for
from names import Names
from test_ports import ECHO

PYTHON = """
import urllib.request
from e2b import PtySize, Sandbox

sandbox = Sandbox.create()
assert sandbox.sandbox_id == "debug_sandbox_id"
sandbox.files.write("from-python", "reef")
assert sandbox.commands.run("cat from-python; whoami").stdout == "reefuser\\n"
terminal = sandbox.pty.create(PtySize(rows=24, cols=80), timeout=60)
sandbox.pty.send_stdin(terminal.pid, b"exit 0\\n")
assert terminal.wait().exit_code == 0
assert sandbox.get_host(8000) == "localhost:8000"
page = urllib.request.Request("http://" + sandbox.get_host(8000) + "/from-python")
assert urllib.request.urlopen(page, timeout=20).read() == b"reef"
assert urllib.request.urlopen(sandbox.download_url("from-python"), timeout=20).read() == b"reef"
sandbox.kill()
"""
JAVASCRIPT = """
import assert from 'node:assert/strict'
import { Sandbox } from 'e2b'
const sandbox = await Sandbox.create()
await sandbox.files.write('from-javascript', 'reef')
assert.equal((await sandbox.commands.run('cat from-javascript; echo $0 >&2')).stdout, 'reef')
assert.equal(await (await fetch(`http://${sandbox.getHost(8000)}/from-javascript`)).text(), 'reef')
await sandbox.kill()
"""


@pytest.fixture
def forwarded(daemon, sandbox):
    """Names for whom `localhost` is the sandbox."""
    names = Names("boxes.test")
    command = [BIN / "atoll", "sandbox", "forward", sandbox.sandbox_id, "49983", "8000", "8765", "--address", names.address]
    forward = subprocess.Popen(command, env={**os.environ, **daemon.env()}, stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(3):
            assert forward.stdout.readline()
        yield names
    finally:
        forward.kill()
        forward.wait()
        names.close()


def run(names, *arguments, cwd=None):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("E2B_")} | {"E2B_DEBUG": "true"}
    done = subprocess.run(names.command(*arguments), env=environment, capture_output=True, text=True, timeout=120, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sdks_use_the_sandbox_on_local_ports(forwarded, sandbox):
    sandbox.commands.run("python3 -m http.server 8000 >/dev/null 2>&1", background=True, timeout=0)
    wait_for(lambda: sandbox.commands.run("ss -Hltn sport = :8000").stdout, 20, "the server")
    run(forwarded, sys.executable, "-c", PYTHON)
    run(forwarded, "node", "--input-type=module", "--eval", JAVASCRIPT, cwd=Path(os.environ["ATOLL_TEST_NODE_MODULES"]).parent)
    assert sandbox.files.read("from-python") == sandbox.files.read("from-javascript") == "reef"


async def test_a_websocket_and_a_page(forwarded, sandbox):
    sandbox.files.write("echo.py", ECHO)
    sandbox.commands.run("python3 echo.py", background=True, timeout=0)
    wait_for(lambda: sandbox.commands.run("ss -Hltn sport = :8765").stdout, 20, "the server")
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(f"http://{forwarded.address}:8765/") as socket:
            await socket.send_str("hello")
            assert (await socket.receive(timeout=20)).data == "hello"
        for headers, status in (({}, 200), ({"Origin": "https://evil.example"}, 401), ({"Host": "evil.example"}, 401)):
            async with session.get(f"http://{forwarded.address}:49983/files?path=/etc/hostname", headers=headers) as answer:
                assert answer.status == status, headers

"""What the newest 1.x of the SDK does in its own way. Run by test_first_major.py, inside a domain."""

import datetime
import secrets
import ssl
import urllib.request

import httpx
import pytest
from daemon import wait_for
from e2b import AsyncSandbox, Sandbox, SandboxException, TimeoutException
from e2b.sandbox.sandbox_api import SandboxQuery

TLS = ssl.create_default_context()


def test_the_constructor_creates():
    run = {"run": secrets.token_hex(4)}
    with Sandbox(timeout=90, metadata=run, envs={"GREETING": "hello there"}) as sandbox:
        info = sandbox.get_info()
        assert (info.sandbox_id, info.name, info.metadata) == (sandbox.sandbox_id, "base", run)
        assert abs((info.end_at - info.started_at).total_seconds() - 90) < 5
        assert [s.sandbox_id for s in Sandbox.list(query=SandboxQuery(metadata=run))] == [sandbox.sandbox_id]
        assert sandbox.commands.run("echo $GREETING").stdout == "hello there\n"
        again = Sandbox.connect(sandbox.sandbox_id)
        again.files.write("by-the-other", "x")
        assert sandbox.files.read("by-the-other") == "x"
        sandbox.set_timeout(300)
        left = sandbox.get_info().end_at - datetime.datetime.now(datetime.timezone.utc)
        assert 280 < left.total_seconds() <= 301
        metrics = wait_for(sandbox.get_metrics, 30, "a metrics sample")[-1]
        assert 0 < metrics.mem_used < metrics.mem_total and metrics.cpu_count >= 1


def test_ends():
    sandbox = Sandbox(timeout=60)
    assert sandbox.is_running() and Sandbox.kill(sandbox.sandbox_id) is True
    assert sandbox.is_running() is False and Sandbox.kill(sandbox.sandbox_id) is False
    with pytest.raises(TimeoutException):
        sandbox.commands.run("true")
    for call in (Sandbox.get_info, Sandbox.connect):
        with pytest.raises(SandboxException, match="404"):
            call(sandbox.sandbox_id)
    short = Sandbox(timeout=2)
    wait_for(lambda: not short.is_running(), 20, "the timeout")


def test_refusals():
    with pytest.raises(SandboxException, match="401"):
        Sandbox(api_key="e2b_" + "0" * 40)
    with pytest.raises(SandboxException, match="404"):
        Sandbox("no-such-template")


def test_no_internet_means_none():
    probe = "python3 -c 'import socket; socket.create_connection((\"1.1.1.1\", 53), 3)'"
    with Sandbox(timeout=60, allow_internet_access=False) as sandbox:
        assert sandbox.commands.run(f"{probe} 2>&1 || echo denied").stdout.endswith("denied\n")


@pytest.mark.parametrize("secure", [False, True])
def test_links_and_tokens(secure):
    with Sandbox(timeout=60, secure=secure) as sandbox:
        sandbox.files.write("signed ü.txt", "through a link")
        link = sandbox.download_url("signed ü.txt")
        with urllib.request.urlopen(link, context=TLS, timeout=20) as response:
            assert response.read() == b"through a link"
        posted = httpx.post(sandbox.upload_url("up.txt"), files={"file": ("up.txt", b"uploaded")}, verify=TLS)
        assert posted.status_code == 200 and sandbox.files.read("up.txt") == "uploaded"
        assert httpx.get(sandbox.download_url("up.txt").replace("up.txt", "b"), verify=TLS).status_code == (401 if secure else 404)
        again = Sandbox.connect(sandbox.sandbox_id)
        assert again.files.read("up.txt") == "uploaded"


def test_a_command_that_reads():
    """Without a word about it, a command's input is open."""
    with Sandbox(timeout=60) as sandbox:
        command = sandbox.commands.run("read line; echo got $line", background=True)
        sandbox.commands.send_stdin(command.pid, "it\n")
        assert command.wait().stdout == "got it\n"


def test_a_port_is_a_host():
    with Sandbox(timeout=60) as sandbox:
        sandbox.commands.run("echo hi > index.html; python3 -m http.server 8000 >/dev/null 2>&1", background=True, timeout=0)
        url = f"https://{sandbox.get_host(8000)}/"
        wait_for(lambda: httpx.get(url, verify=TLS).status_code == 200, 20, "the server")
        assert httpx.get(url, verify=TLS).text == "hi\n"


async def test_asynchronously():
    async with await AsyncSandbox.create(timeout=60) as sandbox:
        assert (await AsyncSandbox.connect(sandbox.sandbox_id)).sandbox_id == sandbox.sandbox_id
        assert sandbox.sandbox_id in [s.sandbox_id for s in await AsyncSandbox.list()]
        await sandbox.set_timeout(100)
        assert (await sandbox.get_info()).name == "base"
        assert await sandbox.is_running()
    assert not await sandbox.is_running()

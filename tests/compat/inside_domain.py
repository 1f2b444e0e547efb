"""What a client sees that knows only E2B_DOMAIN. Run by test_domain.py where that domain leads to its daemon."""

import os
import ssl
import subprocess
import urllib.request
from pathlib import Path

import aiohttp
import httpx
import pytest
from daemon import wait_for
from e2b import AsyncSandbox, Sandbox, TimeoutException
from test_ports import ECHO

TLS = ssl.create_default_context()


def serve(sandbox, port=8000):
    sandbox.files.write("/srv-root/index.html", "from afar", user="root")
    sandbox.commands.run(f"cd /srv-root && python3 -m http.server {port} >/dev/null 2>&1", background=True, timeout=0)
    return f"https://{sandbox.get_host(port)}/"


@pytest.mark.parametrize("http2", [False, True])
def test_a_port_is_a_host(sandbox, http2):
    with httpx.Client(http1=not http2, http2=http2, verify=TLS) as client:
        url = serve(sandbox)
        wait_for(lambda: client.get(url).status_code == 200, 20, "the server")
        answer = client.get(url)
        assert (answer.text, answer.http_version) == ("from afar", "HTTP/2" if http2 else "HTTP/1.1")
        assert client.get(url.replace("8000-", "9-")).status_code == 502
        assert client.get(f"https://49983-{sandbox.sandbox_id}.{os.environ['E2B_DOMAIN']}/init").status_code == 404
        assert client.get(f"https://www.{os.environ['E2B_DOMAIN']}/").status_code == 404
        assert client.get(f"https://api.{os.environ['E2B_DOMAIN']}/health").http_version == answer.http_version


@pytest.mark.parametrize("http2", [False, True])
def test_a_host_is_for_its_own_connection(sandbox, http2):
    domain = os.environ["E2B_DOMAIN"]
    with httpx.Client(http1=not http2, http2=http2, verify=TLS) as client:
        for here, there in [(f"api.{domain}", f"8000-{sandbox.sandbox_id}.{domain}"), (f"8000-{sandbox.sandbox_id}.{domain}", f"api.{domain}")]:
            assert client.get(f"https://{here}/health", headers={"Host": there}).status_code == 421


def test_a_stream_over_http2_arrives_as_it_is_made(sandbox):
    server = """
import http.server, threading
go = threading.Event()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/go":
            go.set()
        self.send_response(200); self.send_header("Connection", "close"); self.end_headers()
        if self.path == "/stream":
            self.wfile.write(b"first\\n"); self.wfile.flush()
            go.wait(30)
            self.wfile.write(b"second\\n")
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
    sandbox.files.write("stream.py", server)
    sandbox.commands.run("python3 stream.py 2>/dev/null", background=True, timeout=0)
    url = f"https://{sandbox.get_host(8000)}/"
    with httpx.Client(http1=False, http2=True, verify=TLS) as client:
        wait_for(lambda: client.get(url).status_code == 200, 20, "the server")
        with client.stream("GET", url + "stream") as response:
            lines = response.iter_lines()
            assert next(lines) == "first"
            assert client.get(url + "go").status_code == 200
            assert next(lines) == "second"


async def test_a_websocket_echoes(sandbox):
    sandbox.files.write("echo.py", ECHO)
    sandbox.commands.run("python3 echo.py", background=True, timeout=0)
    url = f"https://{sandbox.get_host(8765)}/"
    wait_for(lambda: httpx.get(url, verify=TLS).status_code == 426, 20, "the server")
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url, ssl=TLS) as socket:
            for text in ("hello", "x" * 60000, "grün"):
                await socket.send_str(text)
                assert (await socket.receive(timeout=20)).data == text


def test_signed_links():
    sandbox = Sandbox.create(timeout=120, secure=True)
    try:
        sandbox.files.write("a", "through a link")
        with urllib.request.urlopen(sandbox.download_url("a"), context=TLS, timeout=20) as response:
            assert response.read() == b"through a link"
    finally:
        sandbox.kill()


def test_who_is_killed_under_a_command_says_so(sandbox):
    command = sandbox.commands.run("echo up; sleep 600", background=True, timeout=0)
    output = iter(command)
    assert next(output)[0] == "up\n"
    assert sandbox.kill()
    with pytest.raises(TimeoutException, match="killed"):
        command.wait()


async def test_who_is_killed_under_a_command_says_so_asynchronously():
    sandbox = await AsyncSandbox.create(timeout=120)
    command = await sandbox.commands.run("sleep 600", background=True, timeout=0)
    assert await sandbox.kill()
    with pytest.raises(TimeoutException, match="killed"):
        await command.wait()


def test_our_own_command(sandbox):
    atoll = Path(os.environ["ATOLL_BIN"]) / "atoll"
    done = subprocess.run([atoll, "run", "--", "sh", "-c", "cat; exit 3"], input="hello", capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (3, "hello"), done.stderr
    url = serve(sandbox)
    shown = subprocess.run([atoll, "sandbox", "url", sandbox.sandbox_id, "8000"], capture_output=True, text=True, timeout=60)
    assert shown.stdout.strip() + "/" == url, shown.stderr
    wait_for(lambda: httpx.get(url, verify=TLS).status_code == 200, 20, "the server")
    forward = subprocess.Popen([atoll, "sandbox", "forward", sandbox.sandbox_id, "0:8000"], stdout=subprocess.PIPE, text=True)
    try:
        assert httpx.get(forward.stdout.readline().split()[0]).text == "from afar"
    finally:
        forward.kill()
        forward.wait()

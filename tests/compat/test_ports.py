"""What listens in a sandbox is reached from outside."""

import json
import urllib.error
import urllib.request

import aiohttp
import pytest
from daemon import wait_for


def fetch(daemon, host, path="/", **headers):
    """Status and body of a GET through the proxy, as a client of that host name sees it."""
    request = urllib.request.Request(f"http://{daemon.proxy}{path}", headers={"Host": host, **headers})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize("bind", ["0.0.0.0", "127.0.0.1", "::", "::1", "localhost"])
def test_every_bind_address_is_reached(daemon, sandbox, bind):
    server = f"""
import http.server, socket
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in {bind!r} else socket.AF_INET
Server(({bind!r}, 8000), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
    sandbox.files.write("/srv-root/index.html", f"from {bind}", user="root")
    sandbox.files.write("server.py", server)
    sandbox.commands.run("cd /srv-root && python3 /home/user/server.py >/dev/null 2>&1", background=True, timeout=0)
    host = f"8000-{sandbox.sandbox_id}.localhost"
    wait_for(lambda: fetch(daemon, host)[0] == 200, 20, "the server")
    assert fetch(daemon, host)[1] == f"from {bind}".encode()
    assert fetch(daemon, f"8000-{sandbox.sandbox_id}-6532622b.example.com")[1] == f"from {bind}".encode()
    headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "8000"}
    assert fetch(daemon, "localhost", **headers)[1] == f"from {bind}".encode()


def test_closed_unknown_and_blocked(daemon, sandbox):
    status, body = fetch(daemon, f"9-{sandbox.sandbox_id}.localhost")
    assert status == 502 and json.loads(body)["port"] == 9
    status, body = fetch(daemon, "8000-inobodyhasthisid00000.localhost")
    assert status == 502 and json.loads(body)["message"] == "The sandbox was not found"
    for path in ("/init", "//init", "/%69nit", "/x/../init", "/freeze"):
        assert fetch(daemon, f"49983-{sandbox.sandbox_id}.localhost", path)[0] == 404, path
    status, body = fetch(daemon, f"9-{sandbox.sandbox_id}.localhost", **{"User-Agent": "Mozilla/5.0", "Sec-Fetch-Mode": "navigate", "Accept": "text/html"})
    assert status == 502 and b"<html" in body


def test_a_killed_sandbox_answers_502(daemon, sandbox):
    sandbox.commands.run("python3 -m http.server 8000 >/dev/null 2>&1", background=True, timeout=0)
    host = f"8000-{sandbox.sandbox_id}.localhost"
    wait_for(lambda: fetch(daemon, host)[0] == 200, 20, "the server")
    sandbox.kill()
    status, body = fetch(daemon, host)
    answer = json.loads(body)
    assert (status, answer["code"], answer["sandboxId"], answer["message"]) == (502, 502, sandbox.sandbox_id, "The sandbox was not found")


ECHO = """
import base64, hashlib, socketserver, struct

class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        key = None
        while (line := self.rfile.readline().strip()):
            name, _, value = line.decode().partition(":")
            if name.lower() == "sec-websocket-key":
                key = value.strip()
        if not key:
            self.wfile.write(b"HTTP/1.1 426 Upgrade Required\\r\\nContent-Length: 0\\r\\n\\r\\n")
            return
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        self.wfile.write(f"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: {accept}\\r\\n\\r\\n".encode())
        while True:
            head = self.rfile.read(2)
            if len(head) < 2:
                return
            opcode, length = head[0] & 15, head[1] & 127
            if length == 126:
                length = struct.unpack(">H", self.rfile.read(2))[0]
            mask = self.rfile.read(4)
            data = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(length)))
            size = bytes([length]) if length < 126 else b"\\x7e" + struct.pack(">H", length)
            self.wfile.write(bytes([0x80 | opcode]) + size + data)
            if opcode == 8:
                return

socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("0.0.0.0", 8765), Echo).serve_forever()
"""


async def test_a_websocket_echoes(daemon, sandbox):
    sandbox.files.write("echo.py", ECHO)
    sandbox.commands.run("python3 echo.py", background=True, timeout=0)
    host = f"8765-{sandbox.sandbox_id}.localhost"
    wait_for(lambda: fetch(daemon, host)[0] == 426, 20, "the server")
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(f"http://{daemon.proxy}/", headers={"Host": host}) as socket:
            for text in ("hello", "x" * 60000, "grün"):
                await socket.send_str(text)
                assert (await socket.receive(timeout=20)).data == text


def test_a_stream_arrives_as_it_is_made(daemon, sandbox):
    server = """
import http.server, threading
go = threading.Event()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/go":
            go.set()
            self.send_response(204); self.end_headers(); return
        self.send_response(200); self.send_header("Connection", "close"); self.end_headers()
        self.wfile.write(b"first\\n"); self.wfile.flush()
        go.wait(30)
        self.wfile.write(b"second\\n")
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
    sandbox.files.write("stream.py", server)
    sandbox.commands.run("python3 stream.py 2>/dev/null", background=True, timeout=0)
    host = f"8000-{sandbox.sandbox_id}.localhost"

    def opened():
        request = urllib.request.Request(f"http://{daemon.proxy}/", headers={"Host": host})
        try:
            return urllib.request.urlopen(request, timeout=20)
        except urllib.error.HTTPError:
            return None

    with wait_for(opened, 20, "the server") as response:
        assert response.readline() == b"first\n"
        assert fetch(daemon, host, "/go")[0] == 204
        assert response.readline() == b"second\n"

"""A page that is served inside a sandbox, in a real browser: streams, requests across origins, a websocket."""

import urllib.request

import pytest
from chromium import PROGRAM, Browser
from daemon import wait_for
from websocket_server import serve_echo

pytestmark = pytest.mark.skipif(not PROGRAM, reason="there is no chromium on this host")

SERVER = """
import http.server, threading
go = threading.Event()

PAGE = b'''<!doctype html><title>reef</title><h1>Streams</h1><pre id=events></pre><pre id=chunks></pre><pre id=echoes></pre>
<script>
const show = (id, text) => document.getElementById(id).append(text + "\\\\n")
const other = (port) => location.host.replace(/^8000/, port)
const source = new EventSource("/events")
source.onmessage = (event) => { show("events", event.data); if (event.data === "last") source.close() }
fetch("/chunks").then(async (response) => {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  for (let part; !(part = await reader.read()).done;) show("chunks", part.value)
})
const socket = new WebSocket("ws://" + other(8765))
socket.onopen = () => { socket.send("hello"); socket.send(new Uint8Array([1, 2, 3])); socket.send("x".repeat(200000)) }
socket.onmessage = ({ data }) => { show("echoes", typeof data === "string" ? data.length + data.slice(0, 5) : "blob " + data.size) }
</script>'''

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def start(self, kind, **headers):
        self.send_response(200)
        for name, value in {"Content-Type": kind, "Transfer-Encoding": "chunked", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def chunk(self, data):
        self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(data), data))

    def do_OPTIONS(self):
        self.send_response(204)
        self.send_header("Access-Control-Allow-Origin", self.headers["Origin"])
        self.send_header("Access-Control-Allow-Headers", "x-coral")
        self.send_header("Access-Control-Allow-Methods", "PUT")
        self.end_headers()

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.start("text/plain", Access_Control_Allow_Origin=self.headers["Origin"])
        self.chunk(self.headers["X-Coral"].encode() + b" " + body)
        self.chunk(b"")

    def do_GET(self):
        if self.path == "/go":
            go.set()
        form = {"/events": (b"data: first\\n\\n", b"data: last\\n\\n"), "/chunks": (b"first", b"last")}.get(self.path)
        self.start({"/events": "text/event-stream"}.get(self.path, "text/html"))
        for part in form or [PAGE]:
            self.chunk(part)
            if form:
                go.wait(60)
        self.chunk(b"")

for port in (8001, 8000):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever).start()
"""


@pytest.fixture
def browser():
    browser = Browser()
    yield browser
    browser.close()


def test_a_page_in_a_browser(daemon, sandbox, browser):
    sandbox.files.write("page.py", SERVER)
    sandbox.commands.run("python3 page.py", background=True, timeout=0)
    serve_echo(daemon, sandbox)
    host = f"8000-{sandbox.sandbox_id}.localhost"
    go = urllib.request.Request(f"http://{daemon.proxy}/go", headers={"Host": host})
    url = f"http://{host}:{daemon.proxy.rsplit(':', 1)[1]}/"
    wait_for(lambda: browser.open(url) and browser.evaluate("document.title") == "reef", 30, "the page")

    def shown(name):
        return browser.evaluate(f"document.getElementById({name!r}).textContent")

    wait_for(lambda: shown("events") == shown("chunks") == "first\n", 30, "what comes first, while more is to come")
    wait_for(lambda: shown("echoes") == "5hello\nblob 3\n200000xxxxx\n", 30, "the echoes")
    assert shown("events") == shown("chunks") == "first\n"
    urllib.request.urlopen(go, timeout=20).close()
    wait_for(lambda: shown("events") == shown("chunks") == "first\nlast\n", 30, "the rest of the streams")

    other = url.replace("//8000-", "//8001-")
    across = f"fetch({other!r}, {{ method: 'PUT', headers: {{ 'X-Coral': 'reef' }}, body: 'polyp' }}).then((r) => r.text())"
    assert browser.evaluate(across) == "reef polyp"

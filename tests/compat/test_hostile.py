"""Clients that mean harm, byte by byte, against the API, the proxy and `envd`: each gets a clear answer or is cut off, the daemon's memory
stays bounded, and everybody else is served meanwhile."""

import os
import resource
import select
import socket
import struct
import threading
import time

import pytest
from daemon import Daemon, wait_for
from e2b import Sandbox
from plain import create, envd_answers, request

PATIENCE = 30
IDLE = 10_000
MOST_MEMORY = 512 << 20
HEAD_TIMEOUT_MS = 2000


@pytest.fixture(scope="module")
def own_daemon():
    """One for the module, impatient with slow heads."""
    daemon = Daemon()
    daemon.settings = {"ATOLL_API_HEAD_TIMEOUT_MS": str(HEAD_TIMEOUT_MS), "ATOLL_PROXY_HEAD_TIMEOUT_MS": str(HEAD_TIMEOUT_MS)}
    daemon.start()
    yield daemon
    print(f"the daemon's memory was {memory(daemon, 'VmHWM') >> 20} MiB at most")
    daemon.close()


@pytest.fixture(scope="module")
def target(own_daemon):
    """A sandbox that is attacked."""
    yield create(own_daemon, timeout=3600)


@pytest.fixture(autouse=True)
def everybody_else(own_daemon, target):
    """Serves others during and after every test, with bounded memory."""
    bystander = create(own_daemon)
    stop, failed = threading.Event(), []

    def use():
        while not stop.is_set():
            try:
                assert request(own_daemon.api, "GET", "/health", timeout=PATIENCE)[0] == 200
                assert envd_answers(own_daemon, bystander, PATIENCE)
            except Exception as error:
                failed.append(error)
                return
            time.sleep(0.05)

    user = threading.Thread(target=use)
    user.start()
    yield
    stop.set()
    user.join()
    assert not failed, failed
    assert envd_answers(own_daemon, target), "the attacked one too"
    assert memory(own_daemon, "VmHWM") < MOST_MEMORY
    request(own_daemon.api, "DELETE", f"/sandboxes/{bystander}", headers={"X-API-Key": own_daemon.key})


def memory(daemon, field):
    status = open(f"/proc/{daemon.process.pid}/status").read()
    return int(status.split(f"{field}:")[1].split()[0]) << 10


def connect(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def until_closed(client):
    """What comes until the other side closes; it must."""
    text = b""
    try:
        while chunk := client.recv(1 << 16):
            text += chunk
    except ConnectionError:
        pass
    return text


def answer_to(client, *parts):
    """Sends as much as is taken and says what is answered, or nothing if the connection is closed; one of both must happen."""
    text = b""
    try:
        for part in parts:
            client.sendall(part)
    except OSError:
        pass
    try:
        while b"\r\n\r\n" not in text and (chunk := client.recv(1 << 16)):
            text += chunk
    except ConnectionError:
        pass
    return text


def send(address, *parts):
    """The same on a connection of its own."""
    with connect(address) as client:
        return answer_to(client, *parts)


def status(answer):
    """The status of an answer; 0 if the connection was closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


def places(daemon, sandbox):
    """Who is attacked: an address, and what leads a request there."""
    to_envd = f"host: x\r\ne2b-sandbox-id: {sandbox}\r\ne2b-sandbox-port: 49983\r\n".encode()
    return [
        ("API", daemon.api, b"host: x\r\nx-api-key: " + daemon.key.encode() + b"\r\n"),
        ("proxy", daemon.proxy, b"host: 8000-inowhere.localhost\r\n"),
        ("envd", daemon.proxy, to_envd),
    ]


def test_readers_that_do_not_read(own_daemon, target):
    """Each asks for an endless file and reads nothing: what is kept for one is small."""
    _, address, route = places(own_daemon, target)[2]
    before = memory(own_daemon, "VmRSS")
    clients = []
    for _ in range(200):
        client = connect(address)
        client.sendall(b"GET /files?path=/dev/zero HTTP/1.1\r\n" + route + b"\r\n")
        clients.append(client)
    for client in clients:
        assert client.recv(1) == b"H"
    # Until the buffers are full.
    sizes = []

    def settled():
        time.sleep(0.2)
        sizes.append(memory(own_daemon, "VmRSS"))
        return len(sizes) > 10 and max(sizes[-10:]) - min(sizes[-10:]) < 1 << 20

    wait_for(settled, PATIENCE, "the daemon's memory to settle")
    each = (sizes[-1] - before) / len(clients)
    print(f"a client that reads nothing costs {each / 1024:.0f} KiB")
    for client in clients:
        client.close()
    assert each < 1 << 20


def test_heads_without_end(own_daemon, target):
    heads = {
        "one header of 1 MiB": b"a: " + b"x" * (1 << 20) + b"\r\n",
        "one header of 64 MiB": b"a: " + b"x" * (64 << 20) + b"\r\n",
        "100,000 headers": b"".join(b"h%d: x\r\n" % n for n in range(100_000)),
        "a name of 1 MiB": b"x" * (1 << 20) + b": a\r\n",
    }
    for place, address, route in places(own_daemon, target):
        for what, head in heads.items():
            answer = send(address, b"GET /health HTTP/1.1\r\n" + route, head, b"\r\n")
            assert status(answer) in (0, 400, 431), f"{place}, {what}: {answer[:200]}"
        answer = send(address, b"GET /" + b"x" * (1 << 20) + b" HTTP/1.1\r\n" + route + b"\r\n")
        assert status(answer) in (0, 400, 404, 414, 431), f"{place}: {answer[:200]}"


def test_slow_heads_are_cut_off(own_daemon, target):
    """Hundreds of clients who send a byte now and then, none of which makes a whole request."""
    clients = [(connect(address), b"GET / HTTP/1.1\r\n" + route) for _, address, route in places(own_daemon, target) for _ in range(100)]
    began, left = time.monotonic(), clients
    for sent in range(1_000_000):
        still = []
        for client, head in left:
            try:
                client.sendall(head[sent : sent + 1] or b"x")
                readable, _, _ = select.select([client], [], [], 0)
                if readable and not client.recv(1 << 16):
                    raise ConnectionError
                still.append((client, head))
            except OSError:
                client.close()
        left = still
        if not left:
            break
        assert time.monotonic() - began < PATIENCE, f"{len(left)} connections are kept"
        time.sleep(0.1)
    assert time.monotonic() - began >= HEAD_TIMEOUT_MS / 1000 / 2, "they were not cut off for another reason"


def test_connections_without_a_word_cost_little(own_daemon):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = IDLE + 1000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"SKIPPED test_connections_without_a_word_cost_little: only {hard} open files are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    for name, address in (("API", own_daemon.api), ("proxy", own_daemon.proxy)):
        before = memory(own_daemon, "VmRSS")
        clients = [connect(address) for _ in range(IDLE)]
        assert request(address, "GET", "/health", timeout=PATIENCE)[0] in (200, 400), "one more is served"
        each = (memory(own_daemon, "VmRSS") - before) / IDLE
        print(f"{IDLE} idle connections to the {name}: {each / 1024:.1f} KiB each")
        for client in clients:
            client.close()
        assert each < 32 << 10


def test_bodies_without_end(own_daemon, target):
    """Chunked, for ever, to whatever takes a body: refused with a status before much of it is taken."""
    posts = {
        "API": ["/sandboxes", "/v2/sandboxes", "/templates", "/nothing", f"/v2/sandboxes/{target}/connect"]
        + [f"/sandboxes/{target}/{verb}" for verb in ("timeout", "refreshes", "connect")],
        "envd": [f"/process.Process/{method}" for method in ("Start", "List", "StreamInput")]
        + ["/filesystem.Filesystem/ListDir", "/init", "/nothing"],
        "proxy": ["/"],
    }
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    for place, address, route in places(own_daemon, target):
        for path in posts[place]:
            for kind in (b"application/json", b"application/connect+json", b"application/proto"):
                sent, answer = 0, b""
                with connect(address) as client:
                    head = b"POST %s HTTP/1.1\r\n%scontent-type: %s\r\ntransfer-encoding: chunked\r\n\r\n"
                    client.sendall(head % (path.encode(), route, kind))
                    try:
                        while sent < 1 << 30 and not select.select([client], [], [], 0)[0]:
                            client.sendall(chunk)
                            sent += 0x10000
                    except OSError:
                        pass
                    client.settimeout(PATIENCE)
                    try:
                        answer = client.recv(1 << 16)
                    except ConnectionError:
                        pass
                assert status(answer) in (0, 200, 400, 401, 404, 405, 408, 413, 415, 429, 501, 502), f"{place} {path}: {answer[:200]}"
                assert sent < 256 << 20, f"{place} {path}: {sent} bytes were taken"


def test_chunks_of_bad_shape(own_daemon, target):
    bodies = {
        "an extension of 1 MiB": b"5;" + b"x" * (1 << 20) + b"\r\nhello\r\n0\r\n\r\n",
        "100,000 extensions": b"".join(b"1;" + b"x" * 64 + b"\r\na\r\n" for _ in range(100_000)) + b"0\r\n\r\n",
        "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
        "a size beyond 64 bits": b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "no size": b"\r\nhello\r\n0\r\n\r\n",
        "a size without a line end": b"5" * (1 << 20),
        "trailers of 8 MiB": b"0\r\n" + b"a: " + b"x" * (8 << 20) + b"\r\n\r\n",
        "100,000 trailers": b"0\r\n" + b"".join(b"h%d: x\r\n" % n for n in range(100_000)) + b"\r\n",
    }
    for place, address, route in places(own_daemon, target):
        path = b"/sandboxes" if place == "API" else b"/process.Process/List"
        for what, body in bodies.items():
            fields = b"content-type: application/json\r\ntransfer-encoding: chunked\r\nte: trailers\r\n"
            answer = send(address, b"POST %s HTTP/1.1\r\n%s%s\r\n" % (path, route, fields), body)
            assert status(answer) in (0, 200, 400, 408, 413, 431, 502), f"{place}, {what}: {answer[:200]}"


SPY = r"""
import socket, threading
server = socket.create_server(("0.0.0.0", 8000), backlog=64)
def serve(client):
    stream = client.makefile("rb")
    while line := stream.readline():
        fields = []
        while field := stream.readline().strip().lower():
            fields.append(field.split(b":")[0] + b"=" + field.split(b":", 1)[1].strip())
        lengths = [field for field in fields if field.startswith((b"content-length=", b"transfer-encoding="))]
        if lengths and lengths[0].startswith(b"transfer-encoding"):
            while size := int(stream.readline(), 16): stream.read(size + 2)
            stream.readline()
        elif lengths: stream.read(int(lengths[0].split(b"=")[1]))
        with open("/tmp/seen", "ab") as log: log.write(line.split()[1] + b" %d\n" % len(lengths))
        client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


def test_no_request_hides_in_another(own_daemon, target):
    """A server in the sandbox sees as many requests as the proxy relayed, each with one length at most, whatever a client says."""
    os.environ.update(own_daemon.env())
    sandbox = Sandbox.connect(target)
    sandbox.files.write("/tmp/spy.py", SPY)
    sandbox.commands.run("python3 /tmp/spy.py", background=True, timeout=0).disconnect()
    route = f"host: 8000-{target}.localhost\r\n".encode()
    first = b"GET /first HTTP/1.1\r\n" + route + b"\r\n"
    wait_for(lambda: status(send(own_daemon.proxy, first)) == 200, PATIENCE, "the spy")
    hidden = b"0\r\n\r\nGET /hidden HTTP/1.1\r\n" + route + b"connection: close\r\n\r\n"
    for framing in (
        b"content-length: 4\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        b"content-length: 4\r\ncontent-length: 400\r\n",
        b"content-length: 4, 4\r\n",
        b"content-length: +4\r\n",
        b"content-length: -1\r\n",
        b"content-length: 0x10\r\n",
        b"content-length: 18446744073709551617\r\n",
        b"transfer-encoding: chunked, identity\r\n",
        b"transfer-encoding: identity\r\n",
        b"transfer-encoding: xchunked\r\n",
        b"transfer-encoding : chunked\r\n",
        b"transfer-encoding:\x0bchunked\r\n",
        b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        b"transfer-encoding:\r\n chunked\r\n",
        b" transfer-encoding: chunked\r\n",
        b"x: y\ntransfer-encoding: chunked\n",
        b"x: y\rtransfer-encoding: chunked\r\n",
        b"connection: content-length\r\ncontent-length: 60\r\n",
        b"connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n",
    ):
        sandbox.files.write("/tmp/seen", "")
        text = b""
        with connect(own_daemon.proxy) as client:
            client.sendall(b"POST /open HTTP/1.1\r\n" + route + framing + b"\r\n" + hidden)
            client.settimeout(2)
            try:
                while chunk := client.recv(1 << 16):
                    text += chunk
            except (ConnectionError, TimeoutError):
                pass
        seen = [line.split() for line in sandbox.files.read("/tmp/seen").splitlines()]
        assert len(seen) == text.count(b"HTTP/1.1 200"), (framing, seen, text)
        assert all(int(lengths) <= 1 for _, lengths in seen), (framing, seen)
        assert seen or b"HTTP/1.1 400" in text, (framing, text)


def envelope(payload, flags=0, length=None):
    return struct.pack(">BI", flags, len(payload) if length is None else length) + payload


def test_envelopes_of_bad_shape(own_daemon, target):
    good = b'{"process":{"cmd":"/bin/true"}}'
    bodies = {
        "a length of 4 GiB": envelope(b"x", length=0xFFFFFFFF),
        "shorter than its length": envelope(good, length=len(good) + 1),
        "longer than its length": envelope(good, length=len(good) - 1),
        "trailing garbage": envelope(good) + b"\xff" * 1000,
        "compressed without compression": envelope(good, flags=1),
        "all flags": envelope(good, flags=0xFF),
        "an end without an end": envelope(b"{}", flags=2),
        "half a head": b"\0\0\0",
        "nothing": b"",
        "no UTF-8": envelope(b"\xff\xfe"),
        "deep": envelope(b"[" * 100_000),
        "many": envelope(good) * 1000,
        "empty ones": envelope(b"") * 100_000,
        "zeros": b"\0" * (1 << 20),
    }
    _, address, route = places(own_daemon, target)[2]
    for kind in (b"application/connect+json", b"application/connect+proto", b"application/json", b"application/proto", b"nonsense"):
        for path in (b"process.Process/Start", b"process.Process/StreamInput", b"filesystem.Filesystem/WatchDir", b"process.Process/List"):
            for what, body in bodies.items():
                fields = b"connection: close\r\ncontent-type: %s\r\ncontent-length: %d\r\n" % (kind, len(body))
                head = b"POST /%s HTTP/1.1\r\n%s%s\r\n" % (path, route, fields)
                with connect(address) as client:
                    try:
                        client.sendall(head + body)
                    except OSError:
                        pass
                    answer = until_closed(client)
                assert status(answer) in (200, 400, 401, 404, 405, 409, 413, 415, 429, 500, 501), f"{kind} {path} {what}: {answer[:300]}"
                assert status(answer) != 500 or b"internal" in answer, f"{kind} {path} {what}: {answer[:300]}"


def test_paths_that_lead_elsewhere(own_daemon, target):
    """No spelling of a path reaches a route of the platform through the proxy, nor the API without a key."""
    _, address, route = places(own_daemon, target)[2]
    spellings = b"""/init //init /./init /x/../init /%69nit /%2e/init /x/%2e%2e/init /init/ /init%2f /init?x http://x/init http://x//init
        /init%00 /%00/../init /init;x /init#x"""
    for path in spellings.split():
        answer = send(address, b"POST " + path + b" HTTP/1.1\r\n" + route + b"content-length: 2\r\n\r\n{}")
        assert status(answer) in (0, 400, 404, 405, 502), f"{path}: {answer[:200]}"
    spellings = b"""/sandboxes //sandboxes /health/../sandboxes /health/%2e%2e/sandboxes /%73andboxes /sandboxes%00 http://x/sandboxes
        /./sandboxes /openapi.json/../sandboxes * x /\xff /sandboxes/..%2f..%2f"""
    for path in spellings.split():
        for version in (b"1.1", b"1.0"):
            answer = send(own_daemon.api, b"GET " + path + b" HTTP/" + version + b"\r\nhost: x\r\n\r\n")
            assert status(answer) in (0, 400, 401, 404), f"{path}: {answer[:200]}"
    labels = [label + b".localhost" for label in (b"99999-iabc", b"-iabc", b"0-iabc", b"80-../x")]
    hosts = [b"", b"a b", b"x\r\nhost: y", b"[::1", b"x:99999", b"x" * 5000, *labels]
    assert status(send(own_daemon.proxy, b"GET / HTTP/1.1\r\n\r\n")) == 400
    for host in hosts:
        answer = send(own_daemon.proxy, b"GET / HTTP/1.1\r\nhost: " + host + b"\r\n\r\n")
        assert status(answer) in (400, 502), f"{host}: {answer[:200]}"


def test_old_and_hasty_clients_are_served(own_daemon, target):
    _, address, route = places(own_daemon, target)[2]
    assert status(send(address, b"GET /health HTTP/1.0\r\n" + route + b"\r\n")) == 204
    assert status(send(own_daemon.api, b"GET /health HTTP/1.0\r\n\r\n")) == 200
    pipelined = (b"GET /health HTTP/1.1\r\n" + route + b"\r\n") * 99 + b"GET /health HTTP/1.1\r\n" + route + b"connection: close\r\n\r\n"
    with connect(address) as client:
        client.sendall(pipelined)
        assert until_closed(client).count(b"HTTP/1.1 204") == 100


def test_upgrades_that_say_nothing(own_daemon, target):
    """Half-open clients behind an upgrade and half-sent bodies; they hold a connection, not the sandbox."""
    _, address, route = places(own_daemon, target)[2]
    clients = []
    upgrade = b"GET / HTTP/1.1\r\n" + route + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"
    half = b"POST /process.Process/Start HTTP/1.1\r\n" + route + b"content-type: application/json\r\ncontent-length: 1000\r\n\r\n{"
    for head in (upgrade, half):
        for _ in range(200):
            client = connect(address)
            client.sendall(head)
            clients.append(client)
    assert envd_answers(own_daemon, target)
    for client in clients:
        client.close()


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def test_floods_over_http_2(own_daemon, target):
    """Streams opened and reset, headers that never end, pings and settings without end."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
    get = b"\x82\x84\x86\x41\x01x"
    floods = {
        "resets": b"".join(frame(1, 5, n, get) + frame(3, 0, n, b"\0\0\0\x08") for n in range(1, 20_001, 2)),
        "continuations": frame(1, 1, 1, get) + b"".join(frame(9, 0, 1, b"\x00\x01a\x7f\x81\x7f" + b"x" * 254) for _ in range(20_000)),
        "pings": frame(6, 0, 0, b"12345678") * 100_000,
        "settings": frame(4, 0, 0, b"\0\x04\0\0\xff\xff") * 100_000,
        "empty data": frame(1, 4, 1, get) + frame(0, 0, 1) * 100_000,
        "a giant frame": b"\xff\xff\xff" + bytes([0, 0]) + struct.pack(">I", 1) + b"x" * 100_000,
        "nonsense": bytes(range(256)) * 1000,
    }
    for address in (own_daemon.api, own_daemon.proxy):
        for flood in floods.values():
            # Whatever is said, it ends.
            send(address, preface, flood)

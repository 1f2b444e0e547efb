"""HTTP and websockets through the proxy, between ordinary clients and ordinary servers in a sandbox."""

import hashlib
import http.client
import json
import os
import socket
import time

import pytest
from daemon import wait_for
from websocket_server import open_echo, serve_echo
from websockets import ConnectionClosed

SERVER = """
import { createHash } from 'node:crypto'
import http from 'node:http'

const digits = Buffer.from('0123456789'.repeat(1000))
function answer(request, response) {
  if (request.url === '/digits') {
    const range = /^bytes=(\\d+)-(\\d+)$/.exec(request.headers.range ?? '')
    const part = range ? digits.subarray(Number(range[1]), Number(range[2]) + 1) : digits
    const headers = { 'Content-Length': part.length, ...(range && { 'Content-Range': `bytes ${range[1]}-${range[2]}/${digits.length}` }) }
    response.writeHead(range ? 206 : 200, headers)
    return response.end(request.method === 'HEAD' ? '' : part)
  }
  if (request.url === '/ready') return response.end()
  if (request.url === '/refused') return response.writeHead(413).end('too much')
  const hash = createHash('sha256')
  let size = 0
  request.on('data', (data) => { hash.update(data); size += data.length })
  request.on('end', () => {
    response.writeHead(200, { Trailer: 'x-sum' })
    const { 'transfer-encoding': coding = null, 'content-length': length = null } = request.headers
    const digest = hash.digest('hex')
    response.write(JSON.stringify({ size, digest, coding, length, sum: request.trailers['x-sum'] ?? null, method: request.method }))
    response.addTrailers({ 'x-sum': digest })
    response.end()
  })
}
http.createServer(answer).listen(8000, '127.0.0.1')
"""


@pytest.fixture(scope="module")
def server(daemon, shared):
    shared.files.write("server.mjs", SERVER)
    shared.commands.run("node server.mjs", background=True, timeout=0)
    wait_for(lambda: request(daemon, shared, "GET", "/ready")[0] == 200, 30, "the server")
    return shared


def connected(daemon, sandbox):
    return http.client.HTTPConnection(*daemon.proxy.rsplit(":", 1), timeout=60), {"Host": f"8000-{sandbox.sandbox_id}.localhost"}


def request(daemon, sandbox, method, path, **headers):
    client, host = connected(daemon, sandbox)
    client.request(method, path, headers={**host, **headers})
    response = client.getresponse()
    return response.status, response.headers, response.read()


def raw(daemon, sandbox, head):
    """A connection on which a request's head was sent, and a reader of lines."""
    address, port = daemon.proxy.rsplit(":", 1)
    client = socket.create_connection((address, int(port)), timeout=30)
    client.sendall(head.replace(b"\n", b"\r\n") % f"8000-{sandbox.sandbox_id}.localhost".encode())
    return client, client.makefile("rb")


def test_ranges_and_heads(daemon, server):
    status, headers, body = request(daemon, server, "GET", "/digits", Range="bytes=1005-1014")
    assert (status, headers["Content-Range"], body) == (206, "bytes 1005-1014/10000", b"5678901234")
    client, host = connected(daemon, server)
    for _ in range(3):
        client.request("HEAD", "/digits", headers=host)
        response = client.getresponse()
        assert (response.status, response.headers["Content-Length"], response.read()) == (200, "10000", b"")
        client.request("GET", "/digits", headers=host)
        assert client.getresponse().read() == b"0123456789" * 1000


@pytest.mark.parametrize("chunked", [True, False])
def test_a_large_upload(daemon, server, chunked):
    block, count = os.urandom(1_000_000), 100
    digest = hashlib.sha256(block * count).hexdigest()
    client, headers = connected(daemon, server)
    headers |= {} if chunked else {"Content-Length": str(len(block) * count)}
    started = time.monotonic()
    client.request("PUT", "/upload", (block for _ in range(count)), headers, encode_chunked=chunked)
    response = client.getresponse()
    told = json.loads(response.read())
    print(f"upload to a server: {count / (time.monotonic() - started):.0f} MB/s")
    assert (told["size"], told["digest"], told["method"]) == (len(block) * count, digest, "PUT")
    assert (told["coding"], told["length"]) == (("chunked", None) if chunked else (None, str(len(block) * count)))


def test_trailers_both_ways(daemon, server):
    head = b"POST /upload HTTP/1.1\nHost: %s\nTE: trailers\nConnection: close\nTransfer-Encoding: chunked\nTrailer: x-sum\n\n"
    _, lines = raw(daemon, server, head + b"4\nabcd\n0\nx-sum: told\n\n")
    answer = lines.read()
    assert b'"sum":"told"' in answer
    assert answer.lower().endswith(b"0\r\nx-sum: " + hashlib.sha256(b"abcd").hexdigest().encode() + b"\r\n\r\n"), answer


def test_a_client_that_asks_before_it_sends(daemon, server):
    head = b"POST /upload HTTP/1.1\nHost: %s\nConnection: close\nExpect: 100-continue\nContent-Length: 4\n\n"
    client, lines = raw(daemon, server, head)
    assert lines.readline() == b"HTTP/1.1 100 Continue\r\n" and lines.readline() == b"\r\n"
    client.sendall(b"abcd")
    assert lines.readline() == b"HTTP/1.1 200 OK\r\n" and b'"size":4' in lines.read()


def test_a_server_that_answers_before_it_has_read(daemon, server):
    _, lines = raw(daemon, server, b"POST /refused HTTP/1.1\nHost: %s\nContent-Length: 1000000\n\n")
    assert lines.readline() == b"HTTP/1.1 413 Payload Too Large\r\n"


def test_websockets(daemon, shared):
    serve_echo(daemon, shared)
    for compression in ("deflate", None):
        with open_echo(daemon, shared, compression=compression) as client:
            for message in ("", "grün", b"\x00\xff", "x" * 5_000_000, os.urandom(5_000_000)):
                client.send(message)
                assert client.recv(timeout=60) == message
            client.send(["in ", "three ", "frames"])
            assert client.recv(timeout=20) == "in three frames"
            assert client.ping(b"still there").wait(20)
            client.send("close")
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=20)
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4321, "as asked")
    client = open_echo(daemon, shared)
    client.close(3456, "enough")
    assert (client.protocol.close_rcvd.code, client.protocol.close_rcvd.reason) == (3456, "enough")

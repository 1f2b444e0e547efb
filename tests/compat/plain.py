"""The API without an SDK: one request at a time, and a client that repeats what a crash interrupted, as the SDKs do."""

import http.client
import json
import sqlite3
import time

ENVD = 49983


def request(address, method, path, body=None, headers=None, timeout=30):
    """Status, headers and body of one request on a connection of its own."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        data = json.dumps(body).encode() if body is not None else None
        content = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, body=data, headers={**content, **(headers or {})})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def ask(daemon, method, path, body=None, headers=None, timeout=30):
    """Status and JSON of a request to the API."""
    status, _, text = request(daemon.api, method, path, body, {"X-API-Key": daemon.key, **(headers or {})}, timeout)
    return status, json.loads(text) if text else None


def persist(daemon, method, path, body=None, headers=None, seconds=120):
    """The same, repeated while the daemon is away, has no answer yet or asks for patience."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            status, reply = ask(daemon, method, path, body, headers)
            if status not in (409, 503):
                return status, reply
        except (OSError, http.client.HTTPException):
            reply = "no answer"
        assert time.monotonic() < deadline, f"{method} {path}: {reply}"
        time.sleep(0.05)


def create(daemon, **body):
    """The id of a new sandbox."""
    status, reply = ask(daemon, "POST", "/sandboxes", {"templateID": "base", "timeout": 600, **body})
    assert status == 201, reply
    return reply["sandboxID"]


def envd_answers(daemon, sandbox, timeout=30):
    """Whether a sandbox's envd is reached through the proxy."""
    headers = {"E2b-Sandbox-Id": sandbox, "E2b-Sandbox-Port": str(ENVD)}
    return request(daemon.proxy, "GET", "/health", headers=headers, timeout=timeout)[0] == 204


def rows(daemon):
    """What the database says of every sandbox: state, reason, detail and exit code of its end, by id."""
    with sqlite3.connect(f"file:{daemon.data}/atoll.db?mode=ro", uri=True) as database:
        found = database.execute("SELECT id, state, end_reason, end_detail, exit_code FROM sandboxes").fetchall()
    return {row[0]: row[1:] for row in found}


def at_rest(daemon):
    """Whether nothing of any sandbox is left: neither in the database, nor on the disk, nor among the processes."""
    listed = daemon.run("leaks", check=False).stdout.splitlines()
    alive = [row for row in rows(daemon).values() if row[0] != "ended"]
    return not alive and not [line for line in listed if line.startswith(("process", "directory", "mount"))]

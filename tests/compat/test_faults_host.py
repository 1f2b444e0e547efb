"""The host runs out of something, or somebody on it uses force: a clear answer while it lasts, nothing lost, and all is well afterwards."""

import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
from daemon import Daemon, wait_for
from e2b import Sandbox
from plain import ask, at_rest, create, envd_answers, request, rows

NEW = {"templateID": "base", "timeout": 600}


def first_process(daemon, sandbox):
    """The number on the host of a sandbox's first process, which is its envd."""
    return json.loads((daemon.data / "sandboxes" / sandbox / "state.json").read_text())["machine"]["pid"]


def made(daemon):
    """The id of a new sandbox, if there is room for it."""
    status, reply = ask(daemon, "POST", "/sandboxes", NEW)
    return status == 201 and reply["sandboxID"]


def ended(daemon, sandbox):
    """How a sandbox ended, once it has."""
    return wait_for(lambda: (row := rows(daemon)[sandbox])[0] == "ended" and row[1:], 30, "the end to be recorded")


def log_since(daemon, offset):
    return daemon.data.with_suffix(".log").read_bytes()[offset:].decode(errors="replace")


def test_sigkill_of_a_first_process(own_daemon):
    """From the host: with it goes everything inside, and the record says that it exited by no code of its own, not for want of memory."""
    sandbox = Sandbox.create(timeout=600)
    sandbox.commands.run("sleep 3600 & setsid sleep 3600 & sleep 3600", background=True, timeout=0).disconnect()
    os.kill(first_process(own_daemon, sandbox.sandbox_id), signal.SIGKILL)
    reason, detail, code = ended(own_daemon, sandbox.sandbox_id)
    assert (reason, code) == ("exited", None) and "first process" in detail
    assert not sandbox.is_running()
    wait_for(lambda: at_rest(own_daemon), 30, "all to be gone")


def test_sigkill_of_a_first_process_during_its_start(own_daemon):
    own_daemon.stop()
    own_daemon.settings = {"ATOLL_FAULTS": "machine.spawned=error"}
    own_daemon.start()
    status, reply = ask(own_daemon, "POST", "/sandboxes", NEW)
    assert status == 500 and "starting the first process" in reply["message"]
    wait_for(lambda: at_rest(own_daemon), 30, "all to be gone")


def test_a_sandbox_that_ends_while_the_daemon_is_away(own_daemon):
    sandbox = create(own_daemon)
    pid = first_process(own_daemon, sandbox)
    own_daemon.stop(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    own_daemon.start()
    reason, detail, _ = ended(own_daemon, sandbox)
    assert reason == "exited" and "while its node was away" in detail
    wait_for(lambda: at_rest(own_daemon), 30, "all to be gone")


def test_signals_from_inside(sandbox, daemon):
    """Root inside cannot kill the first process, only ask it to end; and who kills all other processes still has a sandbox."""
    sandbox.commands.run("sleep 3600 & setsid sleep 3600 & kill -9 -1", user="root")
    wait_for(lambda: sandbox.commands.list() == [], 30, "all commands to be gone")
    assert sandbox.commands.run("kill -9 1; echo still here", user="root").stdout == "still here\n"
    tree = sandbox.commands.run("sh -c 'sh -c \"sleep 3600\" & wait' & wait", background=True, timeout=0)
    assert sandbox.commands.kill(tree.pid)
    assert sandbox.commands.run("echo fine").stdout == "fine\n"
    other = Sandbox.create(timeout=120)
    try:
        other.commands.run("kill -TERM 1", user="root", request_timeout=10)
    except Exception:
        # The answer may or may not have been faster than the end.
        pass
    reason, _, code = ended(daemon, other.sandbox_id)
    assert (reason, code) == ("exited", 0)


class Disk:
    """A small file system of its own for a data directory."""

    def __init__(self, mebibytes):
        self.dir = Path(tempfile.mkdtemp(prefix="atoll-disk-"))
        self.image, self.path = self.dir / "image", self.dir / "data"
        self.path.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(mebibytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", self.image], check=True)
        self.mount("loop")

    def mount(self, options):
        made = subprocess.run(["mount", "-o", options, self.image, self.path], capture_output=True, text=True)
        if made.returncode:
            shutil.rmtree(self.dir)
            pytest.skip(f"SKIPPED a data disk of its own: no loop mounts here ({made.stderr.strip()})")

    def fill(self):
        with open(self.path / "ballast", "wb", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while ballast.write(b"x" * size):
                        pass
                except OSError:
                    pass

    def unmount(self):
        # The kernel lets go of a sandbox's mounts a little after its end.
        wait_for(lambda: subprocess.run(["umount", self.path], capture_output=True).returncode == 0, 30, f"{self.path} to be free")

    def close(self):
        self.unmount()
        shutil.rmtree(self.dir)


@pytest.fixture
def small_disk():
    if not shutil.which("mkfs.ext4"):
        pytest.skip("SKIPPED a data disk of its own: needs mkfs.ext4")
    disk = Disk(128)
    yield disk
    disk.close()


@pytest.fixture
def own_daemon(request):
    """As everywhere, but its data may be on a small disk."""
    daemon = Daemon()
    if "small_disk" in request.fixturenames:
        daemon.data.rmdir()
        daemon.data = request.getfixturevalue("small_disk").path
    daemon.start()
    yield daemon
    daemon.close()


def test_a_full_data_disk(small_disk, own_daemon):
    lives, dies = create(own_daemon), create(own_daemon)
    small_disk.fill()
    answers = [ask(own_daemon, "POST", "/sandboxes", NEW) for _ in range(3)]
    for status, reply in answers:
        print(status, reply["message"])
        assert status in (500, 503) and ("No space left" in reply["message"] or "disk full" in reply["message"]), answers
    assert ask(own_daemon, "GET", f"/sandboxes/{lives}")[0] == 200
    assert envd_answers(own_daemon, lives)
    killed, reply = ask(own_daemon, "DELETE", f"/sandboxes/{dies}")
    assert killed == 204, reply
    assert not envd_answers(own_daemon, dies)
    (small_disk.path / "ballast").unlink()
    assert ended(own_daemon, dies)[0] == "killed"
    new = create(own_daemon)
    for sandbox in (lives, new):
        assert envd_answers(own_daemon, sandbox)
        assert ask(own_daemon, "DELETE", f"/sandboxes/{sandbox}")[0] == 204
    wait_for(lambda: at_rest(own_daemon), 30, "all to be gone")


def test_a_daemon_that_starts_on_a_full_disk(small_disk, own_daemon):
    sandbox = create(own_daemon)
    own_daemon.stop(signal.SIGKILL)
    small_disk.fill()
    try:
        own_daemon.start()
    except AssertionError as refused:
        print(own_daemon.log_tail(1))
        assert "No space left" in str(refused) or "full" in str(refused), refused
    (small_disk.path / "ballast").unlink()
    if own_daemon.process.poll() is not None:
        own_daemon.start()
    assert envd_answers(own_daemon, sandbox), "its sandboxes have not noticed"


def test_a_data_directory_that_cannot_be_written(small_disk, own_daemon):
    own_daemon.stop()
    small_disk.unmount()
    small_disk.mount("loop,ro")
    with pytest.raises(AssertionError, match="using the data directory.*Read-only file system"):
        own_daemon.start()
    small_disk.unmount()
    small_disk.mount("loop")
    own_daemon.start()


def test_somebody_else_locks_the_database(own_daemon):
    """Reads go on; what must be written is refused after a while, with the advice to try again, and then nothing of it has happened. A
    sandbox can be ended all the same."""
    sandbox, dies = create(own_daemon), create(own_daemon)
    key = {"X-API-Key": own_daemon.key}
    lock = sqlite3.connect(own_daemon.data / "atoll.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    for method, path, body in (("POST", "/sandboxes", NEW), ("POST", f"/sandboxes/{sandbox}/timeout", {"timeout": 500})):
        status, headers, text = request(own_daemon.api, method, path, body, key, 60)
        assert (status, headers["Retry-After"]) == (503, "1"), text
        assert json.loads(text)["error_code"] == "database_unavailable"
        assert ask(own_daemon, "GET", f"/sandboxes/{sandbox}")[0] == 200
        assert envd_answers(own_daemon, sandbox)
    assert ask(own_daemon, "DELETE", f"/sandboxes/{dies}", timeout=60)[0] == 204
    assert not envd_answers(own_daemon, dies)
    lock.execute("ROLLBACK")
    lock.close()
    assert ended(own_daemon, dies)[0] == "killed"
    assert set(rows(own_daemon)) == {sandbox, dies} and rows(own_daemon)[sandbox][0] == "running"
    other = create(own_daemon)
    for id in (sandbox, other):
        assert ask(own_daemon, "DELETE", f"/sandboxes/{id}")[0] == 204


def test_a_sandbox_that_came_up_and_cannot_be_recorded(own_daemon):
    """The database is locked while a sandbox starts: its owner is told that it failed, and it does not run on unknown to anybody."""
    pipe = own_daemon.data / "sandboxes"
    lock = sqlite3.connect(own_daemon.data / "atoll.db", isolation_level=None, check_same_thread=False)
    outcome = []
    # Just after the row is there and before the sandbox is up; when the lock comes too late, the next one is tried.
    for _ in range(50):
        asking = threading.Thread(target=lambda: outcome.append(ask(own_daemon, "POST", "/sandboxes", NEW, timeout=60)))
        asking.start()
        while not list(pipe.iterdir()) and asking.is_alive():
            pass
        lock.execute("BEGIN IMMEDIATE")
        asking.join()
        lock.execute("ROLLBACK")
        status, reply = outcome.pop()
        if status != 201:
            break
        ask(own_daemon, "DELETE", f"/sandboxes/{reply['sandboxID']}")
        wait_for(lambda: not list(pipe.iterdir()), 30, "its end")
    lock.close()
    assert status == 503, reply
    wait_for(lambda: at_rest(own_daemon), 60, "all to be gone")
    assert {row[1] for row in rows(own_daemon).values()} <= {"killed", "start_failed"}
    assert create(own_daemon)


def test_no_file_descriptors(own_daemon):
    """Clients hold all that the daemon may open: it waits for better times without spinning, and says what is missing to those it has."""
    own_daemon.stop()
    own_daemon.prefix = ["prlimit", "--nofile=256:256"]
    own_daemon.start()
    sandbox = create(own_daemon)
    host, port = own_daemon.api.rsplit(":", 1)
    known = http.client.HTTPConnection(own_daemon.api, timeout=60)

    def ask_known(method, path, body=None):
        headers = {"X-API-Key": own_daemon.key, **({"Content-Type": "application/json"} if body else {})}
        known.request(method, path, json.dumps(body) if body else None, headers)
        response = known.getresponse()
        return response.status, response.read()

    assert ask_known("GET", "/health")[0] == 200
    offset = own_daemon.data.with_suffix(".log").stat().st_size
    clients = [socket.create_connection((host, int(port)), timeout=30) for _ in range(300)]
    wait_for(lambda: "could not take a connection" in log_since(own_daemon, offset), 30, "the descriptors to run out")

    ticks = lambda: sum(int(field) for field in Path(f"/proc/{own_daemon.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])
    before, began = ticks(), time.monotonic()
    answers = [ask_known("POST", "/sandboxes", NEW) for _ in range(3)]
    time.sleep(max(0, 2 - (time.monotonic() - began)))
    busy = (ticks() - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began)
    print(f"without descriptors the daemon uses {busy:.0%} of a core; a creation: {answers[0][0]} {answers[0][1].decode()}")
    assert busy < 0.8
    for status, text in answers:
        assert status == 201 or (status in (500, 503) and b"open files" in text), text
    for client in clients:
        client.close()
    wait_for(lambda: ask(own_daemon, "GET", f"/sandboxes/{sandbox}")[0] == 200, 30, "new clients to be served")
    new = wait_for(lambda: made(own_daemon), 30, "a creation to work")
    assert envd_answers(own_daemon, sandbox) and envd_answers(own_daemon, new)
    for id in [sandbox, new] + [json.loads(text)["sandboxID"] for status, text in answers if status == 201]:
        assert ask(own_daemon, "DELETE", f"/sandboxes/{id}")[0] == 204
    wait_for(lambda: at_rest(own_daemon), 30, "all to be gone")


def test_no_networks(own_daemon):
    """A range with room for two: the third is told so, and gets the place of the first that ends."""
    own_daemon.stop()
    own_daemon.settings = {"ATOLL_NETWORK_RANGE": "10.213.77.0/30", "ATOLL_NETWORK_READY": "1"}
    own_daemon.data = Path(tempfile.mkdtemp(prefix="atoll-test-"))
    own_daemon.start()
    both = [create(own_daemon), create(own_daemon)]
    status, reply = ask(own_daemon, "POST", "/sandboxes", NEW)
    assert status == 503 and "all 2 network slots are in use" in reply["message"], reply
    assert all(envd_answers(own_daemon, sandbox) for sandbox in both)
    assert ask(own_daemon, "DELETE", f"/sandboxes/{both[0]}")[0] == 204
    third = wait_for(lambda: made(own_daemon), 30, "a place to be free")
    for sandbox in (both[1], third):
        assert envd_answers(own_daemon, sandbox)
        assert ask(own_daemon, "DELETE", f"/sandboxes/{sandbox}")[0] == 204


def test_ports_that_are_taken(own_daemon):
    own_daemon.stop()
    addresses = own_daemon.api, own_daemon.proxy
    for index, setting in enumerate(("api.listen", "proxy.listen")):
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = f"127.0.0.1:{other.getsockname()[1]}"
            own_daemon.api, own_daemon.proxy = (taken, addresses[1]) if index == 0 else (addresses[0], taken)
            with pytest.raises(AssertionError, match=f"another program listens on {taken}; stop it, or give {setting} another address"):
                own_daemon.start()
    own_daemon.api, own_daemon.proxy = addresses
    own_daemon.start()

"""Many lives while the daemon dies again and again. The long form: ATOLL_SOAK_CYCLES=2000 tests/compat/run -s -k soak"""

import http.client
import os
import signal
import statistics
import threading
import time
import uuid

from daemon import wait_for
from e2b import Sandbox
from plain import at_rest, envd_answers, persist, request, rows

CYCLES = int(os.environ.get("ATOLL_SOAK_CYCLES", "200"))
KILL_EVERY = max(CYCLES // 10, 1)
CLIENTS = 20
SANDBOXES = 100
ROUNDS = 5


def test_soak(own_daemon):
    """Every creation that was acknowledged is seen alive after it, whatever happened in between, and ends because it was killed."""
    todo, done, acknowledged, wrong = iter(range(CYCLES)), [], {}, []
    lock = threading.Lock()

    def answers(sandbox):
        try:
            return envd_answers(own_daemon, sandbox, 10)
        except (OSError, http.client.HTTPException):
            return False

    def client():
        while True:
            with lock:
                if next(todo, None) is None or wrong:
                    return
            try:
                body, key = {"templateID": "base", "timeout": 3600}, str(uuid.uuid4())
                status, made = persist(own_daemon, "POST", "/v2/sandboxes", body, {"Idempotency-Key": key})
                assert status == 201, made
                sandbox = acknowledged[key] = made["sandboxID"]
                wait_for(lambda: answers(sandbox), 60, f"{sandbox} to answer")
                status, reply = persist(own_daemon, "DELETE", f"/sandboxes/{sandbox}")
                assert status in (204, 404), reply
            except Exception as error:
                wrong.append(error)
                return
            done.append(sandbox)

    began = time.monotonic()
    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in clients:
        thread.start()
    back = []
    for target in range(KILL_EVERY, CYCLES, KILL_EVERY):
        wait_for(lambda: len(done) >= target or wrong, 600, f"{target} cycles")
        own_daemon.stop(signal.SIGKILL)
        back.append(own_daemon.start())
    for thread in clients:
        thread.join()
    assert not wrong, wrong
    seconds = time.monotonic() - began
    print(f"{CYCLES} cycles in {seconds:.0f} s, {CLIENTS} at once, {len(back)} x SIGKILL; ready again after {max(back):.2f} s at most")

    # What a dead daemon had begun and nobody was told of is gone too, or gone soon.
    wait_for(lambda: at_rest(own_daemon), 60, "all to be gone")
    ends = rows(own_daemon)
    assert len(set(acknowledged.values())) == CYCLES
    reasons = {ends[sandbox][1] for sandbox in acknowledged.values()}
    assert reasons == {"killed"}, reasons
    unheard = {id: row for id, row in ends.items() if id not in acknowledged.values()}
    assert all(row[1] == "start_failed" and row[2] for row in unheard.values()), unheard
    own_daemon.stop()
    left = own_daemon.run("leaks", check=False)
    assert left.returncode == 0, left.stdout + left.stderr


def test_a_hundred_sandboxes_go_on_without_the_daemon(own_daemon):
    sandboxes = [Sandbox.create(timeout=3600) for _ in range(SANDBOXES)]
    for sandbox in sandboxes:
        sandbox.commands.run("i=0; while :; do i=$((i+1)); echo $i > count; sleep 0.5; done", background=True, timeout=0).disconnect()
    count = lambda sandbox: int(sandbox.files.read("count").strip() or 0)
    for sandbox in sandboxes:
        wait_for(lambda: sandbox.files.exists("count"), 60, "the command to begin")

    def healthy():
        try:
            return request(own_daemon.api, "GET", "/health", timeout=5)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    back = []
    for _ in range(ROUNDS):
        before = [count(sandbox) for sandbox in sandboxes]
        own_daemon.stop(signal.SIGKILL)
        killed = time.monotonic()
        starting = threading.Thread(target=own_daemon.start)
        starting.start()
        wait_for(healthy, 60, "the API")
        back.append(time.monotonic() - killed)
        starting.join()
        pages, listed = Sandbox.list(limit=100), set()
        while pages.has_next:
            listed.update(sandbox.sandbox_id for sandbox in pages.next_items())
        assert listed == {sandbox.sandbox_id for sandbox in sandboxes}
        for sandbox, last in zip(sandboxes, before):
            wait_for(lambda: count(sandbox) > last, 60, f"the command in {sandbox.sandbox_id} to go on")
    shown = ", ".join(f"{seconds:.2f}" for seconds in back)
    print(f"API back after SIGKILL with {SANDBOXES} sandboxes: {shown} s; median {statistics.median(back):.2f} s")
    for sandbox in sandboxes:
        assert sandbox.kill()

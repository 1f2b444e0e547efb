"""Hostile code uses up all it can: neighbours and the daemon keep answering, and the record says what happened."""

import json
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress

import pytest
from daemon import wait_for
from e2b import CommandExitException, NotEnoughSpaceException, Sandbox

# How long anything may take that is asked meanwhile. Times are printed, not judged; an answer that never comes is.
DEADLINE = 60


@pytest.fixture(scope="module")
def neighbour(daemon):
    sandbox = Sandbox.create(timeout=1800)
    yield sandbox
    sandbox.kill()


@pytest.fixture
def victim(daemon):
    sandbox = Sandbox.create(timeout=600)
    yield sandbox
    assert sandbox.kill()
    wait_for(lambda: not (daemon.data / "sandboxes" / sandbox.sandbox_id).exists(), DEADLINE, "the end of a hostile sandbox")


@contextmanager
def watched(neighbour, attack):
    """Asks a neighbour and the API all the while, and fails if one does not answer."""
    stop, commands, lists, failures = threading.Event(), [], [], []

    def ask():
        while not stop.is_set() or not commands:
            for times, question in (
                (commands, lambda: neighbour.commands.run("echo alive", timeout=DEADLINE).stdout == "alive\n"),
                (lists, lambda: Sandbox.list(limit=1, request_timeout=DEADLINE).next_items()),
            ):
                started = time.monotonic()
                try:
                    assert question()
                except Exception as error:
                    failures.append(error)
                    return
                times.append(time.monotonic() - started)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    for what, times in (("command in a neighbour", commands), ("list of sandboxes", lists)):
        times.sort()
        if times:
            middle, longest = times[len(times) // 2] * 1000, times[-1] * 1000
            print(f"{attack}: {what}: p50 {middle:.1f} ms, max {longest:.1f} ms of {len(times)}")
    assert not failures, f"no answer during {attack}: {failures}"


def log_of(daemon, sandbox):
    request = urllib.request.Request(f"http://{daemon.api}/v2/sandboxes/{sandbox.sandbox_id}/logs", headers={"x-api-key": daemon.key})
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        return json.load(answer)["logs"]


def wait_for_log(daemon, sandbox, text):
    lines = lambda: [line for line in log_of(daemon, sandbox) if text in line["message"]]
    found = wait_for(lines, DEADLINE, f"`{text}` in the log")
    assert found[0]["level"] == "warn"


def python(sandbox, program):
    sandbox.files.write("/tmp/attack.py", program)
    return sandbox.commands.run("python3 /tmp/attack.py", timeout=300).stdout.strip()


def works(sandbox):
    return sandbox.commands.run("echo works", timeout=DEADLINE).stdout == "works\n"


def test_fork_bomb(daemon, victim, neighbour):
    with watched(neighbour, "fork bomb"):
        victim.commands.run("bomb() { bomb | bomb & }; bomb; sleep 600", background=True, timeout=0)
        wait_for_log(daemon, victim, "the kernel refused")


def test_memory_hog(daemon, victim, neighbour):
    with watched(neighbour, "memory hog"):
        for _ in range(3):
            with pytest.raises(CommandExitException) as ended:
                victim.commands.run("exec python3 -c 'b = bytearray(4 << 30)'", timeout=DEADLINE)
            assert ended.value.error == "signal: killed"
            assert works(victim)
        wait_for_log(daemon, victim, "the kernel ended")
    with pytest.raises(CommandExitException) as refused:
        victim.commands.run("echo -1000 > /proc/self/oom_score_adj", user="root")
    assert "Permission denied" in refused.value.stderr


def test_memory_in_files(victim, neighbour):
    with watched(neighbour, "files in memory"):
        for fill in ("cat /dev/zero > /dev/shm/big", "cat /dev/zero > /run/big", "cat /dev/zero > /dev/big"):
            with pytest.raises(CommandExitException) as full:
                victim.commands.run(fill, user="root", timeout=DEADLINE)
            assert "No space left" in full.value.stderr
        many = "n = 0\nwhile True:\n    open(f'/dev/shm/{n}', 'w').close()\n    n += 1"
        victim.files.write("/tmp/many.py", many)
        with pytest.raises(CommandExitException) as full:
            victim.commands.run("rm /dev/shm/big; python3 /tmp/many.py", user="root", timeout=DEADLINE)
        assert "No space left" in full.value.stderr
        assert works(victim)


def test_full_disk(daemon, victim, neighbour):
    total, used = map(int, victim.commands.run("df -B1 --output=size,used / | tail -1").stdout.split())
    print(f"full disk: {total >> 20} MiB, {used >> 20} used at the start")
    assert abs(total - (10 << 30)) < 100 << 20 and used < 100 << 20
    with watched(neighbour, "full disk"):
        victim.commands.run("fallocate -l 10000M /tmp/most")
        with pytest.raises(CommandExitException) as full:
            victim.commands.run("cat /dev/zero > /tmp/rest", timeout=DEADLINE)
        assert "No space left" in full.value.stderr
        with pytest.raises(NotEnoughSpaceException):
            victim.files.write("/tmp/more", b"x" * 100_000)
        wait_for_log(daemon, victim, "the disk is full")
        assert works(victim)
        metrics = wait_for(lambda: [m for m in victim.get_metrics() if m.disk_used > 9 << 30], DEADLINE, "a sample of the full disk")
        assert metrics[-1].disk_total == total
        victim.commands.run("rm /tmp/most /tmp/rest", timeout=DEADLINE)
        victim.files.write("/tmp/more", b"x" * 100_000)


def test_many_small_files(victim, neighbour):
    """Not a million: that takes minutes. How many there can be is what `df` says; a test of the runtime goes to the end."""
    total = int(victim.commands.run("df --output=itotal / | tail -1").stdout)
    assert 600_000 < total < 800_000
    program = """
import os, time
started = time.monotonic()
os.makedirs('/tmp/many')
n = 0
while time.monotonic() - started < 10 and n < 1000000:
    if n % 1000 == 0:
        os.mkdir(f'/tmp/many/{n // 1000}')
    with open(f'/tmp/many/{n // 1000}/{n}', 'w') as file:
        file.write('x')
    n += 1
print(n, 'files in', round(time.monotonic() - started, 1), 's')
"""
    with watched(neighbour, "many small files"):
        print(python(victim, program), f"of {total}")
        victim.commands.run("rm -rf /tmp/many", timeout=300)
        assert works(victim)


def test_open_files(victim, neighbour):
    program = """
import contextlib, os
for _ in range(3):
    os.fork()
n = 0
try:
    while True:
        os.open('/dev/null', os.O_RDONLY)
        n += 1
except OSError as error:
    print(n, error.strerror, flush=True)
with contextlib.suppress(ChildProcessError):
    while True:
        os.wait()
"""
    with watched(neighbour, "open files"):
        try:
            print("open files:", python(victim, program).split("\n"))
        except CommandExitException as ended:
            print("open files:", ended.error, ended.stdout)
        assert works(victim)


@pytest.mark.parametrize("reader", ["slow", "gone"])
def test_output(victim, neighbour, reader):
    with watched(neighbour, f"output to a {reader} reader"):
        flood = victim.commands.run("yes " + "x" * 1000, background=True, timeout=0)
        if reader == "gone":
            flood.disconnect()
        for _ in range(20):
            assert works(victim)
        envd = victim.commands.run("grep VmRSS /proc/1/status", user="root").stdout.split()
        print(f"output to a {reader} reader: envd has {int(envd[1]) >> 10} MiB")
        assert int(envd[1]) < 64 << 10
        flood.kill()


def test_spin(victim, neighbour):
    with watched(neighbour, "spin"):
        spin = victim.commands.run("for i in $(seq 32); do (while :; do :; done) & done; wait", background=True, timeout=0)
        for _ in range(20):
            assert works(victim)
        spin.kill()


def test_terminals(victim, neighbour):
    program = """
import os, time
n = 0
try:
    while True:
        os.openpty()
        n += 1
except OSError as error:
    print(n, error.strerror, flush=True)
time.sleep(600)
"""
    with watched(neighbour, "terminals"):
        said = []
        victim.files.write("/tmp/attack.py", program)
        attack = victim.commands.run("exec python3 /tmp/attack.py", background=True, timeout=0)

        def listen():
            # It ends by being killed.
            with suppress(CommandExitException):
                attack.wait(on_stdout=said.append)

        threading.Thread(target=listen).start()
        wait_for(lambda: said, DEADLINE, "all terminals to be taken")
        print("terminals:", said[0].strip())
        assert "No space left" in said[0]
        assert neighbour.commands.run("python3 -c 'import os; os.openpty()'").exit_code == 0
        attack.kill()


def test_watches(victim, neighbour):
    program = """
import ctypes, os
libc = ctypes.CDLL(None)
os.makedirs('/tmp/watched', exist_ok=True)
fd, n = libc.inotify_init1(0), 0
for n in range(50000):
    path = f'/tmp/watched/{n}'
    open(path, 'w').close()
    if libc.inotify_add_watch(fd, path.encode(), 2) < 0:
        break
print(n + 1)
instances = 0
while libc.inotify_init1(0) >= 0:
    instances += 1
print(instances)
"""
    with watched(neighbour, "watches"):
        print("watches and instances:", python(victim, program).split())
        handle = neighbour.files.watch_dir("/home/user")
        neighbour.files.write("/home/user/seen", "")
        wait_for(handle.get_new_events, DEADLINE, "an event in a neighbour")
        handle.stop()


def test_connections(victim, neighbour):
    """What the host remembers of connections is for all sandboxes together; one may take only a part of it."""
    count = lambda: int(open("/proc/sys/net/netfilter/nf_conntrack_count").read())
    program = """
import socket
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sent = 0
for n in range(60000):
    try:
        out.sendto(b'x', (f'198.51.100.{1 + n % 250}', 1024 + n // 250))
        sent += 1
    except OSError:
        pass
print(sent)
"""
    before = count()
    with watched(neighbour, "connections"):
        sent = int(python(victim, program))
        print(f"connections: {sent} tried, {count() - before} remembered")
        assert sent > 50_000 and count() - before < 20_000
        assert works(victim)

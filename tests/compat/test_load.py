"""Much of everything: commands, output, files, terminals, watchers, sandboxes."""

import asyncio
import hashlib
import os
import re
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from e2b import AsyncSandbox, PtySize, Sandbox, SandboxQuery

MIB = 2**20


def peak(status):
    """The highest resident size that /proc/<pid>/status tells, in MiB."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024


def peaks(daemon, sandbox):
    """Those of envd and of atolld."""
    with open(f"/proc/{daemon.process.pid}/status") as status:
        return peak(sandbox.commands.run("cat /proc/1/status", user="root").stdout), peak(status.read())


def rate(size, started):
    return f"{size / MIB:.0f} MiB at {size / MIB / (time.monotonic() - started):.0f} MiB/s"


@pytest.mark.parametrize("parallel", [1, 20])
def test_a_thousand_commands_give_their_own_output(sandbox, parallel):
    count = 1000

    def run(n):
        result = sandbox.commands.run(f"echo {n}; echo error {n} >&2")
        return result.stdout, result.stderr

    started = time.monotonic()
    with ThreadPoolExecutor(parallel) as pool:
        outputs = list(pool.map(run, range(count)))
    print(f"{count} commands, {parallel} at once: {count / (time.monotonic() - started):.0f}/s")
    assert outputs == [(f"{n}\n", f"error {n}\n") for n in range(count)]
    assert sandbox.commands.list() == []


def test_a_large_output_streams_in_bounded_memory(own_daemon, sandbox):
    size = 100_000_000
    made = sandbox.commands.run(f"head -c {size // 4 * 3} /dev/urandom | base64 -w 0 > out && sha256sum < out", timeout=120)
    seen, chunks = hashlib.sha256(), []

    def take(text):
        seen.update(text.encode())
        chunks.append(len(text))

    started = time.monotonic()
    result = sandbox.commands.run("cat out", on_stdout=take, timeout=600)
    envd, atolld = peaks(own_daemon, sandbox)
    print(f"output: {rate(size, started)} in {len(chunks)} chunks; peaks: envd {envd} MiB, atolld {atolld} MiB")
    assert (sum(chunks), len(result.stdout), seen.hexdigest()) == (size, size, made.stdout.split()[0])
    assert envd < 64 and atolld < 128, "memory that grows with the output"


def test_a_large_file_both_ways(own_daemon, sandbox, slow):
    size = (1024 if slow else 256) * MIB
    digest, block = hashlib.sha256(), os.urandom(MIB)
    with tempfile.TemporaryFile() as large:
        for n in range(size // MIB):
            chunk = n.to_bytes(8, "big") + block[8:]
            digest.update(chunk)
            large.write(chunk)
        large.seek(0)
        started = time.monotonic()
        sandbox.files.write("large", large)
    print(f"upload: {rate(size, started)}")
    assert sandbox.commands.run("sha256sum < large", timeout=300).stdout.split()[0] == digest.hexdigest()

    back, started = hashlib.sha256(), time.monotonic()
    for chunk in sandbox.files.read("large", format="stream"):
        back.update(chunk)
    print(f"download: {rate(size, started)}")
    assert back.hexdigest() == digest.hexdigest()
    envd, atolld = peaks(own_daemon, sandbox)
    print(f"peaks: envd {envd} MiB, atolld {atolld} MiB")
    assert envd < 64 and atolld < 128, "memory that grows with the file"


async def test_two_hundred_terminals_at_once(daemon):
    count = 200
    sandbox = await AsyncSandbox.create(timeout=300)
    screens, changed = [bytearray() for _ in range(count)], asyncio.Condition()

    async def show(n, data):
        async with changed:
            screens[n].extend(data)
            changed.notify_all()

    async def until(n, wanted):
        async with changed:
            await asyncio.wait_for(changed.wait_for(lambda: wanted in screens[n]), 60)

    try:
        terminals = await asyncio.gather(
            *(sandbox.pty.create(PtySize(rows=24, cols=80), on_data=lambda data, n=n: show(n, data), timeout=0) for n in range(count))
        )
        for n, terminal in enumerate(terminals):
            await sandbox.pty.send_stdin(terminal.pid, f"echo mark''er {n} of {count}\n".encode())
        await asyncio.gather(*(until(n, f"marker {n} of {count}\r\n".encode()) for n in range(count)))
        for n, terminal in enumerate(terminals):
            await sandbox.pty.resize(terminal.pid, PtySize(rows=30 + n, cols=100 + n))
            await sandbox.pty.send_stdin(terminal.pid, b"stty size\n")
        await asyncio.gather(*(until(n, f"{30 + n} {100 + n}\r\n".encode()) for n in range(count)))
        for n, screen in enumerate(screens):
            assert re.findall(rb"marker (\d+) of", screen) == [str(n).encode()], "a terminal shows another's output"
        assert len(await sandbox.commands.list()) == count
        assert await asyncio.gather(*(terminal.kill() for terminal in terminals)) == [True] * count
        assert await sandbox.commands.list() == []
    finally:
        await sandbox.kill()


async def test_fifty_watchers(daemon):
    sandbox = await AsyncSandbox.create(timeout=120)
    seen = [asyncio.Queue() for _ in range(50)]
    try:
        await asyncio.gather(*(sandbox.files.make_dir(f"seen/{n}") for n in range(50)))
        watchers = await asyncio.gather(
            *(sandbox.files.watch_dir(f"seen/{n}", on_event=queue.put_nowait, timeout=0) for n, queue in enumerate(seen))
        )
        await sandbox.commands.run("for n in $(seq 0 49); do echo x > seen/$n/file-$n; done")
        for n, queue in enumerate(seen):
            event = await asyncio.wait_for(queue.get(), 20)
            assert event.name == f"file-{n}"
        await asyncio.gather(*(watcher.stop() for watcher in watchers))
    finally:
        await sandbox.kill()


async def test_a_hundred_sandboxes_in_pages(own_daemon):
    count, made = 100, []
    for _ in range(0, count, 10):
        made += await asyncio.gather(*(AsyncSandbox.create(timeout=600, metadata={"n": str(len(made) + n)}) for n in range(10)))
    pages, seen = Sandbox.list(query=SandboxQuery(metadata={}), limit=7), []
    while pages.has_next:
        seen += [s.sandbox_id for s in pages.next_items()]
    assert len(seen) == count and set(seen) == {s.sandbox_id for s in made}
    outputs = await asyncio.gather(*(s.commands.run(f"echo {n}") for n, s in enumerate(made)))
    assert [o.stdout for o in outputs] == [f"{n}\n" for n in range(count)]
    assert await asyncio.gather(*(s.kill() for s in made)) == [True] * count

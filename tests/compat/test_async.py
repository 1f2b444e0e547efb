"""The asynchronous SDK, where it differs on the wire: streams are watched, not polled."""

import asyncio

import pytest
from e2b import AsyncSandbox, CommandExitException, FilesystemEventType, PtySize, TimeoutException
from sdk import STDIN, newer


@pytest.fixture
async def sandbox(daemon):
    sandbox = await AsyncSandbox.create(timeout=120)
    yield sandbox
    await sandbox.kill()


async def test_commands(sandbox):
    assert (await sandbox.commands.run("echo $0 $USER")).stdout == "/bin/bash user\n"
    with pytest.raises(CommandExitException):
        await sandbox.commands.run("false")
    with pytest.raises(TimeoutException):
        await sandbox.commands.run("sleep 60", timeout=1)
    lines = []
    command = await sandbox.commands.run("head -n 1", background=True, on_stdout=lines.append, **STDIN)
    await sandbox.commands.send_stdin(command.pid, "x\n")
    assert (await command.wait()).stdout == "x\n" and lines == ["x\n"]


@newer
async def test_stdin_until_its_end(sandbox):
    command = await sandbox.commands.run("cat", background=True, **STDIN)
    await sandbox.commands.send_stdin(command.pid, "x\n")
    await sandbox.commands.close_stdin(command.pid)
    assert (await command.wait()).stdout == "x\n"


async def test_files_and_watching(sandbox):
    events = asyncio.Queue()
    await sandbox.files.make_dir("seen")
    watch = await sandbox.files.watch_dir("seen", on_event=events.put_nowait, recursive=True)
    await sandbox.files.write("seen/deep/file", "x")
    while True:
        event = await asyncio.wait_for(events.get(), 20)
        if event.name == "deep/file" and event.type in (FilesystemEventType.CREATE, FilesystemEventType.WRITE):
            break
    await watch.stop()
    assert await sandbox.files.read("seen/deep/file") == "x"
    assert [e.name for e in await sandbox.files.list("seen")] == ["deep"]


async def test_a_terminal(sandbox):
    shown = asyncio.Event()
    text = bytearray()

    def show(data):
        text.extend(data)
        if b"1 + 1 is 2" in text:
            shown.set()

    terminal = await sandbox.pty.create(PtySize(rows=24, cols=80), on_data=show)
    await sandbox.pty.send_stdin(terminal.pid, b"echo 1 + 1 is $((1+1))\n")
    await asyncio.wait_for(shown.wait(), 20)
    assert await terminal.kill() is True


async def test_a_sandbox_that_dies_under_a_command(sandbox):
    command = await sandbox.commands.run("sleep 3600", background=True, timeout=0)
    await sandbox.kill()
    with pytest.raises(Exception):
        await asyncio.wait_for(command.wait(), 20)
    assert await sandbox.is_running() is False

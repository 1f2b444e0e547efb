"""Terminals."""

import time

import pytest
from e2b import CommandExitException, PtySize
from sdk import newer


class Screen:
    """Reads a terminal until something shows."""

    def __init__(self, handle):
        self.events = iter(handle)
        self.text = ""

    def until(self, wanted, seconds=20):
        deadline = time.monotonic() + seconds
        while wanted not in self.text:
            assert time.monotonic() < deadline, f"{wanted!r} did not show in {self.text!r}"
            _, _, data = next(self.events)
            self.text += (data or b"").decode(errors="replace")
        return self.text


def test_size_input_and_exit(shared):
    terminal = shared.pty.create(PtySize(rows=30, cols=101), timeout=60)
    screen = Screen(terminal)
    shared.pty.send_stdin(terminal.pid, b"stty size; tput cols; tty; echo $TERM $USER done1\n")
    text = screen.until("user done1\r\n")
    assert "30 101" in text and "\n101\r\n" in text and "/dev/pts/" in text and "xterm-256color" in text
    shared.pty.resize(terminal.pid, PtySize(rows=40, cols=133))
    shared.pty.send_stdin(terminal.pid, b"stty size; echo d''one2\n")
    assert "40 133" in screen.until("done2\r\n")
    shared.pty.send_stdin(terminal.pid, b"exit\n")
    assert terminal.wait().exit_code == 0


def test_interrupt_reaches_the_foreground(shared):
    terminal = shared.pty.create(PtySize(rows=24, cols=80), timeout=60)
    screen = Screen(terminal)
    shared.pty.send_stdin(terminal.pid, b"echo r''eady; sleep 3600\n")
    screen.until("ready\r\n")
    shared.pty.send_stdin(terminal.pid, b"\x03")
    shared.pty.send_stdin(terminal.pid, b"echo interrupted $?\n")
    screen.until("interrupted 130")
    assert shared.pty.kill(terminal.pid) is True
    with pytest.raises(CommandExitException):
        terminal.wait()
    assert shared.pty.kill(terminal.pid) is False


@newer
def test_reconnect_gets_new_output_only(shared):
    terminal = shared.pty.create(PtySize(rows=24, cols=80), timeout=0)
    screen = Screen(terminal)
    shared.pty.send_stdin(terminal.pid, b"echo b''efore\n")
    screen.until("before\r\n")
    terminal.disconnect()
    again = shared.pty.connect(terminal.pid, timeout=60)
    screen = Screen(again)
    shared.pty.stream_input(terminal.pid, [b"echo a''f", b"ter\n"])
    assert "before\r\n" not in screen.until("after\r\n")
    shared.pty.kill(terminal.pid)

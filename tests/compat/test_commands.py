"""Commands: output, input, signals, background, reconnect, timeouts, users."""

import threading

import pytest
from daemon import wait_for
from e2b import CommandExitException, InvalidArgumentException, TimeoutException
from e2b.exceptions import NotFoundException
from sdk import STDIN, newer


def test_output_and_exit_code(shared):
    result = shared.commands.run("echo out; echo err >&2")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 0) and not result.error
    with pytest.raises(CommandExitException) as failed:
        shared.commands.run("echo partial; exit 3")
    assert (failed.value.exit_code, failed.value.stdout) == (3, "partial\n")
    with pytest.raises(CommandExitException) as failed:
        shared.commands.run("no-such-command")
    assert failed.value.exit_code == 127


def test_it_runs_as_user_in_the_home_directory(shared):
    assert shared.commands.run("whoami; pwd; echo $HOME").stdout == "user\n/home/user\n/home/user\n"
    assert shared.commands.run("whoami; pwd", user="root").stdout == "root\n/root\n"
    assert shared.commands.run("pwd", cwd="/tmp").stdout == "/tmp\n"
    with pytest.raises(InvalidArgumentException):
        shared.commands.run("pwd", cwd="/no/such/directory")
    with pytest.raises(Exception, match="nobody-here"):
        shared.commands.run("pwd", user="nobody-here")


def test_sudo_needs_no_password(shared):
    assert shared.commands.run("sudo -n whoami").stdout == "root\n"
    assert shared.commands.run("sudo -n touch /etc/made-by-root && stat -c %U /etc/made-by-root").stdout == "root\n"


def test_output_arrives_while_the_command_runs(shared):
    first = threading.Event()
    seen = []

    def take(text):
        seen.append(text)
        first.set()

    command = shared.commands.run("echo first; read line; echo got $line", background=True, **STDIN)
    waiting = threading.Thread(target=lambda: command.wait(on_stdout=take))
    waiting.start()
    assert first.wait(20), "the first line came only at the end"
    shared.commands.send_stdin(command.pid, "second\n")
    waiting.join(20)
    assert "".join(seen) == "first\ngot second\n"


@newer
def test_stdin_until_its_end(shared):
    command = shared.commands.run("cat", background=True, **STDIN)
    shared.commands.send_stdin(command.pid, "one\n")
    shared.commands.stream_input(command.pid, ["two\n", b"three\n"])
    shared.commands.close_stdin(command.pid)
    assert command.wait().stdout == "one\ntwo\nthree\n"
    with pytest.raises(CommandExitException):
        shared.commands.run("read line")


def test_background_list_connect_and_kill(shared):
    command = shared.commands.run("sleep 0.1; read go; echo done; sleep 3600", background=True, timeout=0, **STDIN)
    info = next(p for p in shared.commands.list() if p.pid == command.pid)
    assert info.cmd == "/bin/bash" and info.args[-1].startswith("sleep 0.1")
    command.disconnect()
    again = shared.commands.connect(command.pid)
    shared.commands.send_stdin(command.pid, "go\n")
    out, _, _ = next(iter(again))
    assert out == "done\n"
    assert shared.commands.kill(command.pid) is True
    with pytest.raises(CommandExitException) as ended:
        again.wait()
    assert ended.value.exit_code == -1 and "killed" in ended.value.error
    with pytest.raises(CommandExitException):
        shared.commands.run(f"kill -0 {command.pid}", user="root")
    assert shared.commands.kill(999999) is False
    with pytest.raises(NotFoundException):
        shared.commands.connect(999999)


def test_several_clients_see_the_same_command(shared):
    command = shared.commands.run("read go; echo $go", background=True, **STDIN)
    others = [shared.commands.connect(command.pid) for _ in range(3)]
    shared.commands.send_stdin(command.pid, "all\n")
    assert [c.wait().stdout for c in [command, *others]] == ["all\n"] * 4


def test_an_ended_command_can_still_be_asked(shared):
    command = shared.commands.run("exit 7", background=True)
    with pytest.raises(CommandExitException):
        command.wait()
    with pytest.raises(CommandExitException) as again:
        shared.commands.connect(command.pid).wait()
    assert again.value.exit_code == 7


def test_a_command_that_takes_too_long_is_killed(shared):
    with pytest.raises(TimeoutException):
        shared.commands.run("echo $$ > /tmp/slow.pid; exec sleep 3600", timeout=1)
    pid = shared.files.read("/tmp/slow.pid").strip()
    wait_for(lambda: shared.commands.run(f"kill -0 {pid} 2>/dev/null || echo gone").stdout == "gone\n", 20, "the kill")


def test_large_output_arrives_whole(shared):
    result = shared.commands.run("head -c 20000000 /dev/zero | tr '\\0' x; seq 100000 >&2", timeout=120)
    assert len(result.stdout) == 20_000_000 and set(result.stdout) == {"x"}
    assert result.stderr == "".join(f"{n}\n" for n in range(1, 100001))


def test_output_of_every_byte(shared):
    assert shared.commands.run("printf 'gr\\303\\274n \\360\\237\\220\\232 \\377|'").stdout == "grün 🐚 \ufffd|"


def test_a_daemonised_child_does_not_hold_the_command(shared):
    result = shared.commands.run("nohup sleep 3600 >/dev/null 2>&1 </dev/null & echo started", timeout=20)
    assert result.stdout == "started\n"


def test_python_node_and_git_are_there(shared):
    assert shared.commands.run("python --version && python3 -m venv /tmp/venv && echo ok").stdout.endswith("ok\n")
    node = shared.commands.run("node --version").stdout
    assert int(node.removeprefix("v").split(".")[0]) >= 20
    assert shared.commands.run("npm --version && git --version && curl --version").exit_code == 0


@newer
def test_git_helpers_work(shared):
    shared.commands.run("git init -q /tmp/repo && cd /tmp/repo && git config user.email a@b.c && git config user.name a && echo x > f")
    shared.git.add("/tmp/repo")
    shared.git.commit("/tmp/repo", "first")
    assert shared.commands.run("git -C /tmp/repo log --format=%s").stdout == "first\n"

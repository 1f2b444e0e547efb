"""What is made is unmade, and the check that says so can fail."""

import subprocess

from e2b import Sandbox

CYCLES = 200


def test_two_hundred_cycles_leave_nothing(own_daemon):
    for cycle in range(CYCLES):
        sandbox = Sandbox.create(timeout=60)
        if cycle % 20 == 0:
            sandbox.commands.run("nohup sleep 3600 >/dev/null 2>&1 & sleep 3600 >/dev/null 2>&1 &", timeout=20)
        assert sandbox.kill() is True
    own_daemon.stop()
    left = own_daemon.run("leaks", check=False)
    assert left.returncode == 0, left.stdout + left.stderr


def test_the_check_sees_what_is_left(own_daemon):
    sandbox = Sandbox.create(timeout=600)
    own_daemon.stop()
    left = own_daemon.run("leaks", "--json", check=False)
    assert left.returncode == 1
    for kind in ("process", "link", "loop", "directory", "cgroup"):
        assert f'"{kind}"' in left.stdout, f"a living sandbox shows no {kind}: {left.stdout}"
    assert sandbox.sandbox_id in left.stdout
    own_daemon.start()
    sandbox.kill()


def test_a_second_start_is_quick(own_daemon):
    own_daemon.stop()
    seconds = own_daemon.start()
    print(f"second start: {seconds:.2f} s")
    assert subprocess.run([own_daemon.process.args[0], "--version"], capture_output=True).returncode == 0

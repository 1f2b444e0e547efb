"""The daemon dies, or a step fails, at every fault point that a sandbox's life passes. The points come from the code: a new one is tested
by being there."""

import http.client
import re
import signal
from collections import Counter
from pathlib import Path

from daemon import wait_for
from e2b import Sandbox
from plain import ask, at_rest, rows

SOURCES = Path(__file__).parents[2]


def in_sources(function):
    found = set()
    for root in ("crates", "bin"):
        for file in (SOURCES / root).rglob("src/**/*.rs"):
            found.update(re.findall(rf'fault::{function}\("([^"]+)"\)', file.read_text()))
    return found


def live(daemon):
    """One sandbox from its creation to its end; what the two requests were answered, or that the daemon has gone."""
    answers = []
    try:
        answers.append(ask(daemon, "POST", "/sandboxes", {"templateID": "base", "timeout": 600}))
        if answers[0][0] == 201:
            answers.append(ask(daemon, "DELETE", f"/sandboxes/{answers[0][1]['sandboxID']}"))
            wait_for(lambda: daemon.process.poll() is not None or not list((daemon.data / "sandboxes").iterdir()), 30, "the end")
    except (OSError, http.client.HTTPException):
        answers.append(None)
    return answers


def start(daemon, faults=None):
    daemon.settings = {} if faults is None else {"ATOLL_FAULTS": faults}
    daemon.start()


def passed(text):
    """The points that a log says were passed, each with how many times it was before."""
    names = re.findall(r"fault point ([a-z._]+)$", text, re.MULTILINE)
    seen = Counter()
    for name in names:
        seen[name] += 1
        yield name, seen[name]


def log_from(daemon, offset):
    return re.sub(r"\x1b\[[0-9;]*m", "", daemon.data.with_suffix(".log").read_bytes()[offset:].decode(errors="replace"))


def points(daemon):
    """Every point in a sandbox's life, in order."""
    daemon.stop()
    offset = daemon.data.with_suffix(".log").stat().st_size
    start(daemon, "")
    assert [status for status, _ in live(daemon)] == [201, 204]
    wait_for(lambda: at_rest(daemon), 30, "all to be gone")
    daemon.stop()
    return list(passed(log_from(daemon, offset)))


def leaves_nothing(daemon):
    daemon.stop()
    left = daemon.run("leaks", check=False)
    assert left.returncode == 0, left.stdout + left.stderr


def recovered(daemon, known):
    """What the new daemon says of the sandbox is true, and it can be ended; returns what became of it."""
    new = {id: row for id, row in rows(daemon).items() if id not in known}
    known.update(new)
    assert len(new) <= 1, new
    listed = {sandbox.sandbox_id for sandbox in Sandbox.list(limit=100).next_items()}
    assert listed <= set(new)
    for sandbox in listed:
        assert Sandbox.connect(sandbox).commands.run("echo whole").stdout == "whole\n"
        assert Sandbox.kill(sandbox)
    wait_for(lambda: at_rest(daemon), 30, "all to be gone")
    ends = rows(daemon)
    assert all(ends[id][1] for id in new), f"every end has a reason: {ends}"
    return "whole" if listed else " ".join(str(ends[id][1:3]) for id in new) or "not recorded"


def test_every_point_in_the_sources_is_passed(own_daemon):
    found = {name for name, _ in points(own_daemon)}
    assert found == in_sources("(?:point|fallible)")


def test_sigkill_at_every_point(own_daemon):
    known = {}
    walk = points(own_daemon)
    known.update(rows(own_daemon))
    for name, number in walk:
        start(own_daemon, f"{name}=kill@{number}")
        answers = live(own_daemon)
        assert own_daemon.process.wait(30) == -signal.SIGKILL, f"{name}@{number}: {answers}"
        start(own_daemon)
        outcome = recovered(own_daemon, known)
        assert outcome == "whole" or answers[0] is None or len(answers) == 2, f"{name}: lost: {outcome}"
        print(f"{name}@{number}: {outcome}")
        leaves_nothing(own_daemon)
    start(own_daemon)


def test_sigkill_at_every_point_of_a_recovery(own_daemon):
    """A daemon that died with a sandbox half made, and one that died with a sandbox half gone, die again while they clear up."""
    known = {}

    def die(faults):
        own_daemon.stop()
        start(own_daemon, faults)
        live(own_daemon)
        assert own_daemon.process.wait(30) == -signal.SIGKILL

    for first in ("boot.machine=kill", "stop.machine=kill"):
        die(first)
        offset = own_daemon.data.with_suffix(".log").stat().st_size
        start(own_daemon, "")
        recovered(own_daemon, known)
        walk = list(passed(log_from(own_daemon, offset)))
        assert walk, "a recovery passes points"
        for name, number in walk:
            die(first)
            try:
                start(own_daemon, f"{name}=kill@{number}")
            except AssertionError:
                # It died before it was ready.
                pass
            assert own_daemon.process.wait(30) == -signal.SIGKILL, f"{first}, then {name}@{number}"
            start(own_daemon)
            print(f"{first}, then {name}@{number}: {recovered(own_daemon, known)}")
            leaves_nothing(own_daemon)
    start(own_daemon)


def test_an_error_at_every_step_that_can_fail(own_daemon):
    can_fail = in_sources("fallible")
    assert can_fail
    for name, number in points(own_daemon):
        if name not in can_fail:
            continue
        offset = own_daemon.data.with_suffix(".log").stat().st_size
        start(own_daemon, f"{name}=error@{number}")
        status, reply = live_once(own_daemon)
        wait_for(lambda: f"fault point {name}: error" in log_from(own_daemon, offset), 30, f"{name} to fail")
        print(f"{name}@{number}: {status} {reply.get('message', '') if status != 201 else ''}")
        assert status == 201 or (status == 500 and "fault point" in reply["message"]), reply
        assert Sandbox.create(timeout=60).kill(), "the daemon goes on"
        wait_for(lambda: at_rest(own_daemon), 30, "all to be gone")
        leaves_nothing(own_daemon)
    start(own_daemon)


def live_once(daemon):
    status, reply = ask(daemon, "POST", "/sandboxes", {"templateID": "base", "timeout": 600})
    if status == 201:
        assert ask(daemon, "DELETE", f"/sandboxes/{reply['sandboxID']}")[0] == 204
        ended = lambda: rows(daemon)[reply["sandboxID"]][0] == "ended"
        wait_for(ended, 30, "the end")
    return status, reply

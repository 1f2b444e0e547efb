"""Create, list, info, kill, timeout, metadata, environment."""

import asyncio
import datetime
import secrets

import pytest
from daemon import wait_for
from e2b import (
    AuthenticationException,
    InvalidArgumentException,
    Sandbox,
    SandboxException,
    SandboxQuery,
    SandboxState,
)
from e2b.exceptions import NotFoundException, SandboxNotFoundException


def listed(**query):
    pages = Sandbox.list(query=SandboxQuery(**query))
    found = []
    while pages.has_next:
        found += pages.next_items()
    return found


def test_the_readme_example_runs_as_printed(daemon):
    s = Sandbox.create()
    try:
        assert s.commands.run("uname -a").stdout.startswith("Linux ")
    finally:
        s.kill()


def test_info_tells_what_was_asked_for(daemon):
    before = datetime.datetime.now(datetime.timezone.utc)
    with Sandbox.create(timeout=90, metadata={"purpose": "info"}) as sandbox:
        info = sandbox.get_info()
        assert info.sandbox_id == sandbox.sandbox_id
        assert info.state == SandboxState.RUNNING
        assert info.metadata == {"purpose": "info"}
        assert info.name == "base"
        assert info.envd_version
        assert info.cpu_count >= 1 and info.memory_mb >= 128
        assert abs((info.end_at - info.started_at).total_seconds() - 90) < 5
        assert before - datetime.timedelta(seconds=5) < info.started_at < before + datetime.timedelta(seconds=60)
        assert sandbox.is_running()


def test_kill_ends_it_once(daemon):
    sandbox = Sandbox.create(timeout=60)
    assert sandbox.kill() is True
    assert sandbox.is_running() is False
    assert Sandbox.kill(sandbox.sandbox_id) is False
    with pytest.raises(SandboxNotFoundException):
        sandbox.get_info()
    with pytest.raises(Exception):
        sandbox.commands.run("true")


def test_an_unknown_sandbox_is_not_found(daemon):
    for call in (Sandbox.get_info, Sandbox.connect):
        with pytest.raises(NotFoundException):
            call("inobodyhasthisid00000")
    assert Sandbox.kill("inobodyhasthisid00000") is False


def test_an_unknown_template_is_refused(daemon):
    with pytest.raises(SandboxException, match="404"):
        Sandbox.create("no-such-template")


def test_a_wrong_key_is_refused(daemon):
    with pytest.raises(AuthenticationException):
        Sandbox.create(api_key="e2b_" + "0" * 40)


def test_the_timeout_ends_it(daemon):
    sandbox = Sandbox.create(timeout=2)
    wait_for(lambda: not sandbox.is_running(), 20, "the timeout")
    assert sandbox.sandbox_id not in [s.sandbox_id for s in listed()]


def test_set_timeout_lengthens_and_shortens(daemon):
    with Sandbox.create(timeout=30) as sandbox:
        sandbox.set_timeout(300)
        info = sandbox.get_info()
        left = info.end_at - datetime.datetime.now(datetime.timezone.utc)
        assert 280 < left.total_seconds() <= 301
        sandbox.set_timeout(1)
        wait_for(lambda: not sandbox.is_running(), 20, "the shortened timeout")


def test_connect_extends_and_never_shortens(daemon):
    with Sandbox.create(timeout=100) as sandbox:
        end = sandbox.get_info().end_at
        again = Sandbox.connect(sandbox.sandbox_id, timeout=10)
        assert again.get_info().end_at >= end
        assert again.commands.run("echo same").stdout == "same\n"
        Sandbox.connect(sandbox.sandbox_id, timeout=1000)
        assert sandbox.get_info().end_at > end + datetime.timedelta(seconds=500)


def test_the_list_filters_by_metadata_and_state(daemon):
    tricky = {"run": secrets.token_hex(4), "a b&c=d": "ü&=% +/"}
    with Sandbox.create(timeout=60, metadata=tricky) as sandbox:
        assert [s.sandbox_id for s in listed(metadata=tricky)] == [sandbox.sandbox_id]
        assert listed(metadata={"run": tricky["run"]})[0].metadata == tricky
        assert listed(metadata={**tricky, "other": "x"}) == []
        assert sandbox.sandbox_id in [s.sandbox_id for s in listed(state=[SandboxState.RUNNING])]
        assert sandbox.sandbox_id not in [s.sandbox_id for s in listed(state=[SandboxState.PAUSED])]


def test_the_list_comes_in_pages(daemon):
    run = {"run": secrets.token_hex(4)}
    made = [Sandbox.create(timeout=60, metadata=run) for _ in range(5)]
    try:
        pages = Sandbox.list(query=SandboxQuery(metadata=run), limit=2)
        sizes, seen = [], []
        while pages.has_next:
            page = pages.next_items()
            sizes.append(len(page))
            seen += [s.sandbox_id for s in page]
        assert sizes == [2, 2, 1]
        assert seen == [s.sandbox_id for s in reversed(made)], "newest first"
    finally:
        for sandbox in made:
            sandbox.kill()


def test_environment_variables_reach_every_command(daemon):
    with Sandbox.create(timeout=60, envs={"GREETING": "hello there", "E2B_SANDBOX_ID": "forged"}) as sandbox:
        assert sandbox.commands.run("echo $GREETING").stdout == "hello there\n"
        assert sandbox.commands.run("echo $GREETING", envs={"GREETING": "hi"}).stdout == "hi\n"
        assert sandbox.commands.run("echo $GREETING").stdout == "hello there\n"
        assert sandbox.commands.run("echo $E2B_SANDBOX $E2B_SANDBOX_ID").stdout == f"true {sandbox.sandbox_id}\n"


def test_bad_arguments_are_explained(daemon):
    with pytest.raises((SandboxException, InvalidArgumentException), match="400"):
        Sandbox.create(timeout=-1)
    with pytest.raises((SandboxException, InvalidArgumentException), match="400"):
        Sandbox.create(timeout=10_000_000)
    with pytest.raises(SandboxException, match="400"):
        Sandbox.create("Not A Template!")


def test_an_idempotency_key_makes_one_sandbox(daemon):
    key = secrets.token_hex(8)
    first = Sandbox.create(timeout=60, idempotency_key=key)
    try:
        assert Sandbox.create(timeout=60, idempotency_key=key).sandbox_id == first.sandbox_id
    finally:
        first.kill()


def test_metrics_arrive(daemon):
    with Sandbox.create(timeout=60) as sandbox:
        metrics = wait_for(sandbox.get_metrics, 30, "a metrics sample")
        latest = metrics[-1]
        assert latest.cpu_count == sandbox.get_info().cpu_count
        assert 0 <= latest.cpu_used_pct <= 100
        assert 0 < latest.mem_used < latest.mem_total == sandbox.get_info().memory_mb * 2**20
        assert 0 < latest.disk_total


def test_what_is_not_served_says_so(daemon):
    with Sandbox.create(timeout=60) as sandbox:
        with pytest.raises(Exception, match="501"):
            sandbox.pause()
        assert sandbox.is_running()


def test_no_internet_means_none(daemon):
    probe = "python3 -c 'import socket; socket.create_connection((\"1.1.1.1\", 53), 3)'"
    with Sandbox.create(timeout=60, allow_internet_access=False) as sandbox:
        assert sandbox.get_info().allow_internet_access is False
        assert sandbox.commands.run(f"{probe} 2>&1 || echo denied").stdout.endswith("denied\n")


async def test_twenty_at_once(daemon):
    from e2b import AsyncSandbox

    sandboxes = await asyncio.gather(*(AsyncSandbox.create(timeout=120) for _ in range(20)))
    try:
        outputs = await asyncio.gather(*(s.commands.run(f"echo {i}") for i, s in enumerate(sandboxes)))
        assert [o.stdout for o in outputs] == [f"{i}\n" for i in range(20)]
        assert len({s.sandbox_id for s in sandboxes}) == 20
    finally:
        await asyncio.gather(*(s.kill() for s in sandboxes))

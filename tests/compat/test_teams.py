"""Two teams that must not see each other."""

import json
import urllib.error
import urllib.request

import pytest
from e2b import Sandbox
from e2b.exceptions import SandboxNotFoundException


@pytest.fixture(scope="module")
def stranger(daemon):
    return daemon.new_team("strangers")


def test_another_team_sees_nothing(daemon, shared, stranger):
    pages = Sandbox.list(api_key=stranger)
    assert [s.sandbox_id for s in pages.next_items()] == []
    for call in (Sandbox.get_info, Sandbox.connect):
        with pytest.raises(SandboxNotFoundException):
            call(shared.sandbox_id, api_key=stranger)
    with pytest.raises(SandboxNotFoundException):
        Sandbox.set_timeout(shared.sandbox_id, 1, api_key=stranger)
    assert Sandbox.get_metrics(shared.sandbox_id, api_key=stranger) == []
    assert Sandbox.kill(shared.sandbox_id, api_key=stranger) is False
    assert shared.is_running()


def test_another_team_has_the_same_base(daemon, stranger):
    sandbox = Sandbox.create(timeout=60, api_key=stranger)
    try:
        assert sandbox.commands.run("echo theirs").stdout == "theirs\n"
        with pytest.raises(SandboxNotFoundException):
            Sandbox.get_info(sandbox.sandbox_id)
    finally:
        Sandbox.kill(sandbox.sandbox_id, api_key=stranger)


def test_logs_and_metrics_of_others_are_empty_or_missing(daemon, shared, stranger):
    for path in ("/sandboxes/{}/logs", "/v2/sandboxes/{}/logs", "/sandboxes/metrics?sandbox_ids={}"):
        request = urllib.request.Request(f"http://{daemon.api}" + path.format(shared.sandbox_id), headers={"X-API-Key": stranger})
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                answer = json.loads(response.read())
                assert all(not value for value in answer.values()), answer
        except urllib.error.HTTPError as error:
            assert error.code == 404

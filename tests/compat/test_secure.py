"""Access tokens and signed links."""

import json
import time
import urllib.error
import urllib.request

import pytest
from daemon import wait_for
from e2b import Sandbox


def open_link(daemon, sandbox, url, data=None, headers=None):
    """Opens a signed link; its host is the daemon's proxy, which finds the sandbox by header."""
    route = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"}
    request = urllib.request.Request(url, data=data, headers={**route, **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def form(content, name="file", filename="ignored"):
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
    return head.encode() + content + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


def test_without_the_token_nothing_is_open(daemon, shared):
    route = {"E2b-Sandbox-Id": shared.sandbox_id, "E2b-Sandbox-Port": "49983"}
    for path, method in (("/files?path=/etc/passwd", "GET"), ("/envs", "GET"), ("/metrics", "GET"), ("/process.Process/List", "POST")):
        for token in ({}, {"X-Access-Token": "0" * 64}):
            headers = {**route, **token, "Content-Type": "application/json"}
            request = urllib.request.Request(f"http://{daemon.proxy}{path}", data=b"{}" if method == "POST" else None, headers=headers)
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=20)
            assert refused.value.code == 401, path
            assert json.loads(refused.value.read())["code"] == 401


def test_signed_links_download_and_upload(daemon, shared):
    shared.files.write("signed ü.txt", "through a link")
    link = shared.download_url("signed ü.txt")
    assert open_link(daemon, shared, link) == (200, b"through a link")
    body, headers = form(b"uploaded")
    assert open_link(daemon, shared, shared.upload_url("up.txt"), body, headers)[0] == 200
    assert shared.files.read("up.txt") == "uploaded"
    assert open_link(daemon, shared, shared.download_url("up.txt", user="user"))[1] == b"uploaded"


def test_a_changed_or_expired_link_is_refused(daemon, shared):
    shared.files.write("a", "a")
    link = shared.download_url("a")
    assert open_link(daemon, shared, link.replace("path=a", "path=b"))[0] == 401
    status, body = open_link(daemon, shared, link + "x")
    assert (status, json.loads(body)) == (401, {"code": 401, "message": "invalid signature"})
    assert open_link(daemon, shared, link, headers={"X-Access-Token": "wrong"})[0] == 401
    assert open_link(daemon, shared, shared.download_url("a", use_signature_expiration=60))[0] == 200
    short = shared.download_url("a", use_signature_expiration=1)
    status, body = wait_for(lambda: (r := open_link(daemon, shared, short))[0] == 401 and r, 20, "the link to expire")
    assert json.loads(body) == {"code": 401, "message": "signature is already expired"}


def test_the_token_stays_the_same(daemon, shared):
    again = Sandbox.connect(shared.sandbox_id)
    again.files.write("by-the-other", "x")
    assert shared.files.read("by-the-other") == "x"
    assert again.download_url("a") == shared.download_url("a")

"""Nothing gets out of a sandbox, and the harness that says so sees a way out where there is one."""

import json
import os
import subprocess

import pytest
from daemon import BIN, Daemon

# What each protection holds alone: with it off, at least these succeed.
WEAKENED = {
    "seccomp": {"user-namespace", "mount-in-user-namespace", "io-uring", "keyring", "host-key", "rare-sockets"},
    "capabilities": {"own-address", "own-routes", "own-hardware-address"},
    "user_namespace": {"root-of-the-host", "shared-device-nodes", "agent-program"},
    "pid_namespace": {"host-process-list"},
    "ipc_namespace": {"host-shared-memory", "host-message-queue"},
    "firewall": {"host-ports", "host-datagrams", "neighbour-port", "neighbour-agent", "neighbour-datagrams"},
    "masked_paths": {"proc-sys-writes", "proc-secrets", "sys-secrets"},
    "cgroup_limits": {"process-limit"},
    # What `docker run --privileged` does, and more.
    "seccomp,capabilities,user_namespace,masked_paths": {
        "clock",
        "core-pattern",
        "devtmpfs-mount",
        "host-file-by-handle",
        "kernel-log",
        "memory-devices",
        "mount",
        "reboot",
        "swap",
    },
}


def attack(daemon):
    """The harness's report and its exit code."""
    environment = {**os.environ, **daemon.env()}
    done = subprocess.run([BIN / "atoll", "doctor", "--attack", "--json"], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout, done.stderr
    return json.loads(done.stdout), done.returncode


def breaches(report):
    return {attempt["name"] for attempt in report["attempts"] if attempt["outcome"] == "breached"}


def test_nothing_gets_out(own_daemon):
    report, code = attack(own_daemon)
    unsettled = [attempt for attempt in report["attempts"] if attempt["outcome"] not in ("held", "not_applicable")]
    assert unsettled == [] and report["changed"] == [] and code == 0
    assert report["on_host"] and report["held"] >= 150
    skipped = {attempt["name"]: attempt["how"] for attempt in report["attempts"] if attempt["outcome"] == "not_applicable"}
    print(f"{report['held']} held, not applicable: {skipped}")
    examined = own_daemon.run("doctor", check=False).stdout
    assert "all protections of the host are on" in examined


@pytest.mark.parametrize("disabled", WEAKENED)
def test_a_hole_is_seen(disabled, monkeypatch):
    daemon = Daemon()
    daemon.settings = {"ATOLL_DANGER_DISABLE": disabled}
    daemon.start()
    try:
        report, code = attack(daemon)
        found = breaches(report)
        print(f"without {disabled}: {sorted(found)}")
        assert WEAKENED[disabled] <= found and code == 1
        assert report["changed"] == []
        assert "danger.disable" in daemon.log_tail(1000)
        monkeypatch.setenv("ATOLL_DANGER_DISABLE", disabled)
        examined = daemon.run("doctor", check=False)
        assert examined.returncode == 1 and "protections of the host are off" in examined.stdout
    finally:
        daemon.close()


def test_an_unknown_protection_is_refused(tmp_path):
    environment = {**os.environ, "ATOLL_DATA_DIR": str(tmp_path), "ATOLL_DANGER_DISABLE": "walls"}
    refused = subprocess.run([BIN / "atolld", "all"], env=environment, capture_output=True, text=True, timeout=60)
    assert refused.returncode != 0 and "walls" in refused.stderr

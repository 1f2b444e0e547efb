"""A daemon that a test starts itself: its own data directory, free ports, nothing left at the end."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

BIN = Path(os.environ["ATOLL_BIN"])


def wait_for(condition, seconds=30, what="the condition"):
    """Polls until the condition holds and returns its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


class Elsewhere:
    """A daemon that somebody else started and the environment leads to."""

    def env(self):
        return {}


class Daemon:
    def __init__(self):
        self.data = Path(tempfile.mkdtemp(prefix="atoll-test-"))
        self.key = "e2b_" + secrets.token_hex(20)
        self.process = None
        self.api = self.proxy = "127.0.0.1:0"
        self.settings, self.prefix = {}, []

    def env(self):
        """What a client needs, as `atoll env` prints it."""
        return {
            "E2B_API_URL": f"http://{self.api}",
            "E2B_SANDBOX_URL": f"http://{self.proxy}",
            "E2B_API_KEY": self.key,
        }

    def start(self, seconds=900):
        """Starts the daemon and waits until it is ready; the first start on a machine makes the base template."""
        started = time.monotonic()
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("ATOLL_", "E2B_"))}
        for name in ("ATOLL_CACHE_DIR", "ATOLL_LOG"):
            if name in os.environ:
                environment[name] = os.environ[name]
        environment |= {
            "ATOLL_DATA_DIR": str(self.data),
            "ATOLL_API_LISTEN": self.api,
            "ATOLL_PROXY_LISTEN": self.proxy,
            "ATOLL_API_KEY": self.key,
            **self.settings,
        }
        self.log = open(self.data.with_suffix(".log"), "ab")
        self.process = subprocess.Popen([*self.prefix, BIN / "atolld", "all"], env=environment, stdout=subprocess.PIPE, stderr=self.log, text=True)
        killer = threading.Timer(seconds, self.process.kill)
        killer.start()
        lines = []
        for line in self.process.stdout:
            lines.append(line.strip())
            if line.strip() == "atoll ready":
                break
        killer.cancel()
        if not lines or lines[-1] != "atoll ready":
            self.process.wait()
            raise AssertionError(f"atolld did not become ready ({self.process.returncode}):\n{self.log_tail()}")
        exports = dict(l.removeprefix("export ").split("=", 1) for l in lines if l.startswith("export "))
        self.api = exports["E2B_API_URL"].strip("'\"").removeprefix("http://").replace("localhost", "127.0.0.1")
        self.proxy = exports["E2B_SANDBOX_URL"].strip("'\"").removeprefix("http://").replace("localhost", "127.0.0.1")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        return time.monotonic() - started

    def log_tail(self, lines=60):
        return "\n".join(self.data.with_suffix(".log").read_text(errors="replace").splitlines()[-lines:])

    def stop(self, sig=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            self.process.wait(60)

    def run(self, *args, check=True):
        """Runs an atolld subcommand on this daemon's data."""
        environment = {**os.environ, "ATOLL_DATA_DIR": str(self.data)}
        return subprocess.run([BIN / "atolld", *args], env=environment, capture_output=True, text=True, check=check, timeout=120)

    def new_team(self, name):
        """The key of a new team."""
        printed = self.run("team", "create", name).stdout
        return next(word for word in printed.split() if word.startswith("e2b_"))

    def close(self):
        """Ends every sandbox and the daemon, and fails if anything of them is left."""
        try:
            if self.process and self.process.poll() is None:
                from e2b import Sandbox

                options = {"api_key": self.key, "api_url": f"http://{self.api}"}
                pages = Sandbox.list(**options)
                while pages.has_next:
                    for sandbox in pages.next_items():
                        Sandbox.kill(sandbox.sandbox_id, **options)
            self.stop()
            left = self.run("leaks", check=False)
            assert left.returncode == 0, f"left behind:\n{left.stdout}{left.stderr}"
        finally:
            self.stop(signal.SIGKILL)
            self.log.close()
            if self.process and self.process.returncode == 0:
                shutil.rmtree(self.data, ignore_errors=True)
                self.data.with_suffix(".log").unlink(missing_ok=True)

"""A headless Chromium, driven through its DevTools protocol."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import urllib.request

from websockets.sync.client import connect

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "google-chrome"))), None)


class Browser:
    def __init__(self):
        self.profile = tempfile.TemporaryDirectory(prefix="atoll-test-", ignore_cleanup_errors=True)
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={self.profile.name}"]
        self.process = subprocess.Popen([PROGRAM, *options, "about:blank"], stderr=subprocess.PIPE, text=True, start_new_session=True)
        listening = next(line for line in self.process.stderr if line.startswith("DevTools listening on "))
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        with urllib.request.urlopen(f"http://{listening.split('/')[2]}/json", timeout=30) as targets:
            page = next(target for target in json.load(targets) if target["type"] == "page")
        self.socket = connect(page["webSocketDebuggerUrl"], max_size=None, proxy=None, legacy=True)
        self.calls = 0

    def call(self, method, **params):
        self.calls += 1
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv(timeout=60))).get("id") != self.calls:
            pass
        assert "result" in answer, answer
        return answer["result"]

    def open(self, url):
        return self.call("Page.navigate", url=url)

    def evaluate(self, expression):
        """The value of an expression in the page; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def close(self):
        """The program may be a script that waits for the browser, so the whole session ends."""
        self.socket.close()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.profile.cleanup()

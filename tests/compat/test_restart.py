"""The daemon dies; the sandboxes do not."""

import signal
import urllib.request

from daemon import wait_for
from e2b import Sandbox

COUNT = 20


def test_twenty_sandboxes_survive_sigkill(own_daemon):
    sandboxes = [Sandbox.create(timeout=600, metadata={"n": str(n)}) for n in range(COUNT)]
    short = Sandbox.create(timeout=20)
    for sandbox in sandboxes:
        sandbox.commands.run("python3 -m http.server 8000 >/dev/null 2>&1", background=True, timeout=0).disconnect()
        script = "i=0; while [ ! -e stop ]; do i=$((i+1)); echo $i > count; sleep 0.1; done; echo finished > result"
        sandbox.commands.run(script, background=True, timeout=0).disconnect()
    counts = [wait_for(lambda s=s: s.files.exists("count") and s.files.read("count").strip()) for s in sandboxes]

    own_daemon.stop(signal.SIGKILL)
    seconds = own_daemon.start()
    print(f"ready again after {seconds:.2f} s with {COUNT + 1} sandboxes")

    listed = {s.sandbox_id: s for s in Sandbox.list(limit=100).next_items()}
    assert {s.sandbox_id for s in sandboxes} <= set(listed), "all are listed"
    for sandbox, count in zip(sandboxes, counts):
        wait_for(lambda: int(sandbox.files.read("count").strip() or 0) > int(count), 20, "the command to go on")
        sandbox.files.write("stop", "")
        wait_for(lambda: sandbox.files.exists("result"), 20, "the command to finish")
        request = urllib.request.Request(f"http://{own_daemon.proxy}/", headers={"Host": f"8000-{sandbox.sandbox_id}.localhost"})
        assert urllib.request.urlopen(request, timeout=20).status == 200, "its port answers"
        assert listed[sandbox.sandbox_id].metadata["n"]
    wait_for(lambda: not short.is_running(), 60, "the timeout to hold")
    for sandbox in sandboxes:
        assert sandbox.kill() is True

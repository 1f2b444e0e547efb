"""The SDK from npm."""

import os
import subprocess
from pathlib import Path

MODULES = os.environ["ATOLL_TEST_NODE_MODULES"]


def test_the_stock_sdk_from_npm(daemon):
    link = Path(__file__).parent / "js" / "node_modules"
    if not link.is_symlink():
        link.symlink_to(MODULES)
    try:
        tests = sorted(str(p) for p in (Path(__file__).parent / "js").glob("*.test.mjs"))
        done = subprocess.run(["node", "--test", *tests], capture_output=True, text=True, timeout=600, env={**os.environ, **daemon.env()})
        print(done.stdout[-4000:])
        assert done.returncode == 0, done.stdout[-12000:] + done.stderr[-2000:]
    finally:
        link.unlink()

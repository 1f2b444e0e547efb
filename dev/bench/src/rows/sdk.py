"""Prints, as JSON, how long each sandbox took in milliseconds: until it was created, until a command's output was there."""

import json
import sys
import time

from e2b import Sandbox

created, spoke = [], []
for round in range(int(sys.argv[1]) + 3):
    begun = time.perf_counter()
    sandbox = Sandbox.create()
    made = time.perf_counter()
    assert sandbox.commands.run("echo hello").stdout == "hello\n"
    said = time.perf_counter()
    sandbox.kill()
    if round >= 3:
        created.append((made - begun) * 1000)
        spoke.append((said - begun) * 1000)
    time.sleep(0.03)
print(json.dumps([created, spoke]))

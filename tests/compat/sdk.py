"""The SDK that is tested, in the words of its newest major: the same tests hold for 1.x."""

import e2b
import pytest
from e2b import Sandbox
from e2b.sandbox.filesystem import filesystem

FIRST = not hasattr(Sandbox, "create")
"""Whether it is 1.x."""
newer = pytest.mark.skipif(FIRST, reason="the SDK's 1.x has no such methods or options")

create = Sandbox if FIRST else Sandbox.create
STDIN = {} if FIRST else {"stdin": True}
"""What `commands.run` needs for a command that reads: in 1.x all of them may."""
UPLOADS = [{}] if FIRST else [{}, {"use_octet_stream": True}, {"gzip": True}]
FileNotFoundException = getattr(e2b, "FileNotFoundException", e2b.NotFoundException)
WriteEntry = dict if FIRST else filesystem.WriteEntry


def write_files(sandbox, entries):
    return (sandbox.files.write if FIRST else sandbox.files.write_files)(entries)

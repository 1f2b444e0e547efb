"""Names that lead to one loopback address, for the programs that a test starts: those below a domain, and `localhost`."""

import random
import socket
import struct
import tempfile
import threading
from pathlib import Path

# The files are seen by the program and what it starts, and by nobody else.
ENTER = """
for file in hosts nsswitch.conf resolv.conf; do mount --bind "$0/$file" "/etc/$file"; done
exec "$@"
"""


class Names:
    """A loopback address of its own, with a name server on UDP port 53."""

    def __init__(self, domain):
        self.domain, self.address = domain, "127." + ".".join(str(random.randint(64, 250)) for _ in range(3))
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((self.address, 53))
        self.files = tempfile.TemporaryDirectory(prefix="atoll-names-")
        Path(self.files.name, "resolv.conf").write_text(f"nameserver {self.address}\n")
        Path(self.files.name, "hosts").write_text(f"{self.address} localhost\n")
        Path(self.files.name, "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            question, client = self.socket.recvfrom(512)
            if not question:
                return
            self.socket.sendto(self.answer(question), client)

    def answer(self, question):
        labels, at = [], 12
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode("ascii", "replace").lower())
            at += 1 + question[at]
        at += 1
        kind = struct.unpack(">H", question[at : at + 2])[0]
        known = ".".join(labels).endswith("." + self.domain)
        found = known and kind == 1
        head = question[:2] + struct.pack(">HHHHH", 0x8580 if known else 0x8583, 1, int(found), 0, 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(self.address)
        return head + question[12 : at + 4] + (record if found else b"")

    def command(self, *arguments):
        """The command, for a machine that asks this name server."""
        return ["unshare", "--mount", "sh", "-euc", ENTER, self.files.name, *map(str, arguments)]

    def close(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", (self.address, 53))
        self.files.cleanup()

"""The published server: `server.py KEY`, the key in hex. It answers a message with its bytes reversed.

Prints `listening on PORT` among the package's own lines, and ends when standard input does, so that it
never outlives the test that started it.
"""

import os
import sys
from threading import Thread

from falcotcp_py import Server


class Announced(Server):
    """The constructor binds and then blocks, so the port is told from the first thing that it starts."""

    def accept(self):
        # In one write, and on a line of its own, whatever the constructor's thread is printing.
        os.write(1, b"\nlistening on %d\n" % self.socket.getsockname()[1])
        super().accept()


def end_with_standard_input():
    sys.stdin.read()
    os._exit(0)


def reverse(message):
    if message == b"fail":
        raise RuntimeError("asked to fail")
    return message[::-1]


Thread(target=end_with_standard_input, daemon=True).start()
Announced(host="127.0.0.1", port=0, key=bytes.fromhex(sys.argv[1]), message_handler=reverse, workers=2)

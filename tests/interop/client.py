"""The published client, driven line by line: `client.py PORT KEY`, the key in hex.

Prints `connected`, then reads `ping` or `message HEX` and prints `pinged` or `response HEX`.
Whatever the package raises is printed as `error NAME` instead.
"""

import sys

from falcotcp_py import Client


def perform(client, command):
    name, _, argument = command.partition(" ")
    if name == "ping":
        client.ping()
        return "pinged"
    return "response " + client.message(bytes.fromhex(argument)).hex()


def attempt(action):
    try:
        return action()
    except Exception as error:
        return "error " + type(error).__name__


def connect(client, port, key):
    client.connect("127.0.0.1", int(port), bytes.fromhex(key))
    return "connected"


client = Client()
print(attempt(lambda: connect(client, *sys.argv[1:])), flush=True)
for line in sys.stdin:
    print(attempt(lambda: perform(client, line.strip())), flush=True)

"""`jaxrl serve`: an exported policy behind the bridge's PolicyService."""

import argparse
import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from jaxrl.cli.export import installed
from jaxrl.cli.run import say

TOKEN = "JAXRL_TOKEN"  # of the environment: arguments are seen by everybody on a machine


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="jaxrl serve", description=f"Serves an exported policy. A token that clients have to bear is taken from {TOKEN}."
    )
    parser.add_argument("folder", type=Path, help="what `jaxrl export` wrote")
    parser.add_argument("--address", default="127.0.0.1:50051", metavar="HOST:PORT")
    parser.add_argument("--expect", default="", metavar="HASH", help="serve no policy but the one with this hash")
    for name in ("root", "certificate", "key"):
        parser.add_argument(f"--{name}", type=Path, metavar="PEM", help="needed unless the address is on this machine")
    parser.add_argument("--insecure", action="store_true", help="plain text to other machines, in a network that nobody else can reach")
    parser.add_argument("--queue", type=int, default=8, help="requests that may wait")
    parser.add_argument("--sessions", type=int, default=64, help="robots at a time")
    options = parser.parse_args(arguments)
    files = {name: getattr(options, name) for name in ("root", "certificate", "key")}
    missing = [name for name, file in files.items() if file is None]
    if 0 < len(missing) < len(files):
        parser.error(f"--{missing[0]}: is missing; root, certificate and key belong together")
    with installed():
        from jaxrl.deploy.artifact import load
        from jaxrl.deploy.server import Config, Security, serve
    token = os.environ.get(TOKEN, "")
    if token and missing:
        parser.error(f"{TOKEN} is set, but a token is sent over an encrypted channel only: add --root, --certificate and --key")
    security = None if missing else Security(**files, token=token)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("jax").setLevel(logging.WARNING)  # it tells of each platform that is not there
    made = load(options.folder, options.expect)
    host = options.address.rpartition(":")[0]

    def opened(port: int) -> None:
        say(f"{made.spec.name} {made.manifest['hash'][:12]} at {host}:{port}; it answers once it is compiled")

    config = Config(queue=options.queue, sessions=options.sessions)
    asyncio.run(serve(made, options.address, config, security, options.insecure, opened))
    say("ended")
    return 0

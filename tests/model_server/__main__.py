"""Run the model server until it is stopped: `python -m tests.model_server --port N`."""

from __future__ import annotations

import argparse
import threading

from .server import ModelServer


def main() -> None:
    """Print the URL for clients as the first line, then serve until interrupted or killed."""
    parser = argparse.ArgumentParser(description="A small model behind the OpenAI protocol, for tests.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    with ModelServer(parser.parse_args().port) as server:
        print(server.base_url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()

"""python -m config.embedded.modelserver: what `manage.py runmodels` becomes, without Django in its memory."""

import argparse
import logging
import sys

from config.embedded.modelserver import server
from config.embedded.process import StartProblemError


def main() -> int:
    """Serve until SIGTERM or Ctrl-C; 1 when that is not possible."""
    parser = argparse.ArgumentParser(prog="manage.py runmodels")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        server.run(arguments.host, arguments.port)
    except StartProblemError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

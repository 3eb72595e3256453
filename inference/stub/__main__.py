"""python -m inference.stub [--port N]"""

import argparse
import asyncio
import contextlib

import uvloop

from inference.stub.server import StubServer


async def serve(port: int) -> None:
    async with StubServer(port=port, keep_requests=False) as stub:
        print(stub.base_url, flush=True)  # noqa: T201 - whoever started us waits for it
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the stub until Ctrl-C; its URL is printed when it answers.")
    parser.add_argument("--port", type=int, default=0, help="default: any free port")
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(parser.parse_args().port))

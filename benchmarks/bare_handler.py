"""The limit for memory hits: aiohttp and uvloop with one handler that returns a fixed body and fixed headers.

Run as `python bare_handler.py PORT BODY_FILE HEADERS_JSON`.
"""

import asyncio
import json
import sys
from pathlib import Path

import uvloop
from aiohttp import web
from multidict import CIMultiDict


async def serve(port: int, body: bytes, headers: CIMultiDict[str]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, headers=headers.copy())

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    fields = CIMultiDict(json.loads(sys.argv[3]))
    uvloop.run(serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes(), fields))

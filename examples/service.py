"""A component behind a port, with a policy: `python examples/service.py examples/hello.wat 8080`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys

from wasi_http import ConnectionFactory, Egress, Service


async def main(path: str, port: int) -> None:
    egress = Egress.parse("https://api.example.com")
    async with Service.from_file(path, env={"GREETING": "hello"}, egress=egress, timeout=10.0) as service:
        connections = ConnectionFactory(service)
        server = await asyncio.get_running_loop().create_server(connections, "127.0.0.1", port)
        print(f"Serving HTTP on http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
        try:
            await server.serve_forever()
        finally:
            server.close()
            await connections.close()  # requests in progress finish first


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    if len(sys.argv) != 3 or not sys.argv[2].isdigit():
        sys.exit(f"usage: {sys.argv[0]} COMPONENT PORT")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], int(sys.argv[2])))

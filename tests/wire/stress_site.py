"""An echo site that misbehaves, cheap enough for hundreds of connections; prints its port."""

from __future__ import annotations

import asyncio
import json
import random
import struct
from socket import SO_LINGER, SOL_SOCKET
from typing import Final

CHUNKED: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
)
FAULTS: Final = ("cut", "reset", "stall", "surplus", "close", "garbage")

chance = random.Random(1)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await respond(reader, writer):
            pass
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Repeat the prompt word by word; whether the connection can be used again."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    body = json.loads(await reader.readexactly(length))
    words = body["messages"][-1]["parts"][0]["text"].split(" ")
    fault = chance.choice(FAULTS) if chance.random() < 0.1 else ""
    writer.write(CHUNKED)
    for number, word in enumerate(words):
        await asyncio.sleep(chance.uniform(0, 0.02))
        if number and fault in ("cut", "reset", "stall"):
            break
        text = (" " * bool(number) + word).encode()
        writer.write(b"%x\r\n%b\r\n" % (len(text), text))
        await writer.drain()
    if fault == "garbage":
        writer.write(b"0x5\r\nworse\r\n")
        return False
    if fault == "stall":
        await asyncio.sleep(3)
    if fault == "reset":
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    if fault in ("cut", "stall", "reset"):
        return False
    writer.write(b"0\r\n\r\n" + CHUNKED * (fault == "surplus"))
    await writer.drain()
    return fault != "close"


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

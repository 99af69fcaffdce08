"""PyPI's `tikv-client`, unmodified, against real stores.

Arguments: addresses of stores. It tries every raw call that it has, and writes until a line comes on standard input,
with a line for each hundred writes; meanwhile the test moves and kills leaders. Then everything that was acknowledged must
be there.
"""

import asyncio
import sys

from tikv_client.asynchronous import RawClient


async def points(client):
    assert await client.get(b"py/absent") is None
    await client.put(b"py/a", b"1")
    assert await client.get(b"py/a") == b"1"
    await client.delete(b"py/a")
    assert await client.get(b"py/a") is None


async def batches_and_scans(client):
    pairs = {b"py/scan-%04d" % at: b"value-%d" % at for at in range(1000)}
    keys = sorted(pairs)
    await client.batch_put(pairs)
    assert dict(await client.batch_get(keys)) == pairs
    start, end = b"py/scan-", b"py/scan-~"
    assert await client.scan(start, end, 2000) == [(key, pairs[key]) for key in keys]
    assert await client.scan_keys(start, end, 10) == keys[:10]
    assert await client.scan(end, start, 10) == []
    await client.batch_delete(keys[:100])
    assert await client.scan_keys(start, end, 1) == keys[100:101]
    await client.delete_range(start, end)
    assert await client.scan_keys(start, end, 1) == []


async def load(client):
    stopped = asyncio.Event()
    acknowledged, failed = [], 0

    async def write(writer):
        nonlocal failed
        at = 0
        while not stopped.is_set():
            key = b"py/load-%d-%d" % (writer, at)
            at += 1
            try:
                await client.put(key, key)
                acknowledged.append(key)
                if len(acknowledged) % 100 == 0:
                    print("a hundred more", flush=True)
            except Exception as error:
                print(error, file=sys.stderr)
                failed += 1

    writers = [asyncio.create_task(write(writer)) for writer in range(4)]
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    assert line, "the test is gone"
    stopped.set()
    await asyncio.gather(*writers)
    for at in range(0, len(acknowledged), 500):
        keys = acknowledged[at : at + 500]
        assert dict(await client.batch_get(keys)) == {key: key for key in keys}
    assert acknowledged, "nothing was written"
    print("end:", len(acknowledged), "acknowledged,", failed, "failed")


async def main():
    client = await RawClient.connect(sys.argv[1:])
    await points(client)
    await batches_and_scans(client)
    await load(client)


asyncio.run(main())

"""PyPI's `tikv-client`, unmodified, against real stores.

Arguments: addresses of stores. It tries every raw call that it has, and writes until a line comes on standard input,
with a line for each hundred writes; meanwhile the test splits regions, and moves and kills leaders. Then everything that was
acknowledged must be there.

It scans all the while as well, and each scan must be whole, if SCANS=whole is in the environment. Where stores are killed it is
not: this client takes a region error for an answer without pairs, in scans alone, and does not forget the region that it asked
for; so what it leaves out is read by key, which teaches it the regions, and then it scans again. What a scan does give must be
right, in order and without repetition; what is read by key must be there; and once nothing changes any more, a scan behind such
reads must be whole.
"""

import asyncio
import os
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


SPAN = {b"py/span-%04d" % at: b"value-%d" % at for at in range(1000)}


async def scan_span(client):
    """The keys that a scan leaves out."""
    found = await client.scan(b"py/span-", b"py/span-~", 2000)
    keys = [key for key, _ in found]
    assert keys == sorted(set(keys)), "a scan repeats keys or is out of order"
    assert all(SPAN.get(key) == value for key, value in found), "a scan gives what was not written"
    assert await client.scan_keys(b"py/span-", b"py/span-0000", 10) == [], "nothing lies there"
    return sorted(SPAN.keys() - set(keys))


async def learn(client, missing):
    """Reads by key, which goes to the regions as they are and is whole."""
    assert dict(await client.batch_get(missing)) == {key: SPAN[key] for key in missing}


async def scan_on(client, stopped):
    whole = partial = failed = 0
    while not stopped.is_set():
        try:
            missing = await scan_span(client)
            if missing:
                partial += 1
                await learn(client, missing)
            else:
                whole += 1
        except AssertionError:
            raise
        except Exception as error:
            print(error, file=sys.stderr)
            failed += 1
        await asyncio.sleep(0.01)
    missing = sorted(SPAN)
    for _ in range(100):
        try:
            missing = await scan_span(client)
            if not missing:
                break
            await learn(client, missing)
        except AssertionError:
            raise
        except Exception as error:
            # A store that it asks is only just starting.
            print(error, file=sys.stderr)
            await asyncio.sleep(0.1)
    assert not missing, "nothing changes any more, and a scan is not whole"
    assert whole, "no scan was whole"
    if os.environ.get("SCANS") == "whole":
        assert partial == failed == 0, f"{partial} scans left keys out, {failed} failed"
    print("end:", whole, "whole scans,", partial, "with keys left out,", failed, "failed")


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

    await client.batch_put(SPAN)
    writers = [asyncio.create_task(write(writer)) for writer in range(4)]
    scanner = asyncio.create_task(scan_on(client, stopped))
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    assert line, "the test is gone"
    stopped.set()
    await asyncio.gather(*writers)
    await scanner
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

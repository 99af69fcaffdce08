"""PyPI's `tikv-python`, unmodified, against real stores.

Arguments: addresses of stores. It tries every call, and writes until a line comes on standard input, with a line
for each hundred writes, and scans without pause; meanwhile the test splits regions, moves leaders and kills them. Every scan
must give each key once and in order, and in the end everything that was acknowledged must be there.
"""

import sys
import threading
import time

import tikv


def points(client):
    assert client.get(b"tp/absent") is None
    client.put(b"tp/a", b"1")
    assert client.get(b"tp/a") == b"1"
    client.delete(b"tp/a")
    assert client.get(b"tp/a") is None
    client.put(b"tp/brief", b"2", ttl=100)
    assert 90 < client.ttl(b"tp/brief") <= 100
    client.put(b"tp/gone", b"3", ttl=1)
    while client.get(b"tp/gone") is not None:
        time.sleep(0.02)


def batches_and_scans(client):
    pairs = {b"tp/scan-%04d" % at: b"value-%d" % at for at in range(1000)}
    keys = sorted(pairs)
    client.put_many(pairs)
    assert client.get_many(keys) == pairs
    start, end = b"tp/scan-", b"tp/scan-~"
    assert list(client.scan(start, end)) == [(key, pairs[key]) for key in keys]
    assert list(client.scan_keys(start, end, limit=10)) == keys[:10]
    assert list(client.scan_keys(start, end, limit=3, reverse=True)) == keys[:-4:-1]
    # Without an end, it asks for what lies before 8,193 bytes of 255.
    assert next(iter(client.scan_keys(start, limit=1, reverse=True))) >= keys[-1]
    assert client.checksum(start, end).keys == 1000
    client.delete_many(keys[:100])
    assert list(client.scan_keys(start, end, limit=1)) == keys[100:101]
    client.delete_range(start, end)
    assert list(client.scan_keys(start, end)) == []


def swaps(endpoints):
    with tikv.RawClient(endpoints, atomic=True) as client:
        client.delete(b"tp/cas")
        assert client.compare_and_swap(b"tp/cas", None, b"1") == (True, None)
        assert client.compare_and_swap(b"tp/cas", b"0", b"2") == (False, b"1")
        assert client.compare_and_swap(b"tp/cas", b"1", b"2").swapped
        assert client.get(b"tp/cas") == b"2"


def load(client):
    stopped = threading.Event()
    acknowledged, failures, scans, failed_scans = [], [], [], []
    spanned = [b"tp/span-%04d" % at for at in range(1000)]
    client.put_many({key: key for key in spanned})

    def scan():
        while not stopped.is_set():
            try:
                found = list(client.scan_keys(b"tp/span-", b"tp/span-~"))
            except tikv.TiKVError as error:
                failed_scans.append(error)
                continue
            scans.append(found == spanned)

    def write(writer):
        at = 0
        while not stopped.is_set():
            key = b"tp/load-%d-%d" % (writer, at)
            at += 1
            try:
                client.put(key, key)
                acknowledged.append(key)
                if len(acknowledged) % 100 == 0:
                    print("a hundred more", flush=True)
            except tikv.TiKVError as error:
                failures.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    threads.append(threading.Thread(target=scan))
    for thread in threads:
        thread.start()
    line = sys.stdin.readline()
    stopped.set()
    for thread in threads:
        thread.join()
    assert line, "the test is gone"
    for at in range(0, len(acknowledged), 500):
        keys = acknowledged[at : at + 500]
        assert client.get_many(keys) == {key: key for key in keys}
    assert acknowledged, "nothing was written"
    assert scans and all(scans), f"{scans.count(False)} of {len(scans)} scans are wrong"
    print("end:", len(acknowledged), "acknowledged,", len(failures), "failed,", len(scans), "scans,", len(failed_scans), "failed")


with tikv.RawClient(sys.argv[1:]) as client:
    points(client)
    batches_and_scans(client)
    swaps(sys.argv[1:])
    load(client)

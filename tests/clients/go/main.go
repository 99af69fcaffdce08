// The stock Go client, unmodified, against real stores.
//
// Arguments: addresses of stores. It tries every raw call, and writes until a line comes on standard input, with a line
// for each hundred writes, and scans without pause; meanwhile the test splits regions, moves leaders and kills them. Every
// scan must give each key once and in order, and in the end everything that was acknowledged must be there.
package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tikv/client-go/v2/config"
	"github.com/tikv/client-go/v2/rawkv"
)

const writers = 4

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	client, err := rawkv.NewClient(ctx, os.Args[1:], config.DefaultConfig().Security)
	check(err)
	points(ctx, client)
	batchesAndScans(ctx, client)
	swaps(ctx, client)
	load(ctx, client)
	check(client.Close())
}

func points(ctx context.Context, client *rawkv.Client) {
	value, err := client.Get(ctx, []byte("go/absent"))
	check(err)
	expect(value == nil, "an absent key has %q", value)
	check(client.Put(ctx, []byte("go/a"), []byte("1")))
	value, err = client.Get(ctx, []byte("go/a"))
	check(err)
	expect(string(value) == "1", "the key has %q", value)
	check(client.Delete(ctx, []byte("go/a")))
	value, err = client.Get(ctx, []byte("go/a"))
	check(err)
	expect(value == nil, "a deleted key has %q", value)

	check(client.PutWithTTL(ctx, []byte("go/brief"), []byte("2"), 100))
	ttl, err := client.GetKeyTTL(ctx, []byte("go/brief"))
	check(err)
	expect(ttl != nil && *ttl > 90 && *ttl <= 100, "time to live: %v", ttl)
	ttl, err = client.GetKeyTTL(ctx, []byte("go/absent"))
	check(err)
	expect(ttl == nil, "an absent key has a time to live: %v", ttl)
	check(client.PutWithTTL(ctx, []byte("go/gone"), []byte("3"), 1))
	for {
		value, err = client.Get(ctx, []byte("go/gone"))
		check(err)
		if value == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}

	expect(client.Put(ctx, []byte(""), []byte("1")) != nil, "an empty key was written")
	expect(client.Put(ctx, bytes.Repeat([]byte("k"), 8193), []byte("1")) != nil, "a key over 8 KiB was written")
}

func batchesAndScans(ctx context.Context, client *rawkv.Client) {
	var keys, values [][]byte
	for at := 0; at < 1000; at++ {
		keys = append(keys, []byte(fmt.Sprintf("go/scan-%04d", at)))
		values = append(values, []byte(fmt.Sprintf("value-%d", at)))
	}
	check(client.BatchPut(ctx, keys, values))
	found, err := client.BatchGet(ctx, keys)
	check(err)
	same(found, values)

	start, end := []byte("go/scan-"), []byte("go/scan-~")
	gotKeys, gotValues, err := client.Scan(ctx, start, end, 10240)
	check(err)
	same(gotKeys, keys)
	same(gotValues, values)
	gotKeys, _, err = client.Scan(ctx, start, end, 10)
	check(err)
	same(gotKeys, keys[:10])
	gotKeys, _, err = client.ReverseScan(ctx, end, start, 3)
	check(err)
	same(gotKeys, [][]byte{keys[999], keys[998], keys[997]})
	gotKeys, gotValues, err = client.Scan(ctx, start, end, 2, rawkv.ScanKeyOnly())
	check(err)
	same(gotKeys, keys[:2])
	same(gotValues, [][]byte{{}, {}})
	gotKeys, _, err = client.Scan(ctx, end, start, 10)
	check(err)
	same(gotKeys, nil)

	sum, err := client.Checksum(ctx, start, end)
	check(err)
	expect(sum.TotalKvs == 1000, "the checksum counts %d pairs", sum.TotalKvs)

	check(client.BatchDelete(ctx, keys[:100]))
	gotKeys, _, err = client.Scan(ctx, start, end, 1)
	check(err)
	same(gotKeys, keys[100:101])
	check(client.DeleteRange(ctx, start, end))
	gotKeys, _, err = client.Scan(ctx, start, end, 1)
	check(err)
	same(gotKeys, nil)
}

func swaps(ctx context.Context, client *rawkv.Client) {
	client.SetAtomicForCAS(true)
	defer client.SetAtomicForCAS(false)
	key := []byte("go/cas")
	check(client.Delete(ctx, key))
	_, swapped, err := client.CompareAndSwap(ctx, key, nil, []byte("1"))
	check(err)
	expect(swapped, "the first value was not written")
	previous, swapped, err := client.CompareAndSwap(ctx, key, []byte("0"), []byte("2"))
	check(err)
	expect(!swapped && string(previous) == "1", "swapped %v, previous %q", swapped, previous)
	_, swapped, err = client.CompareAndSwap(ctx, key, []byte("1"), []byte("2"))
	check(err)
	expect(swapped, "the second value was not written")
	value, err := client.Get(ctx, key)
	check(err)
	expect(string(value) == "2", "the key has %q", value)
}

func load(ctx context.Context, client *rawkv.Client) {
	var stopped atomic.Bool
	var done, failed, scanned, notScanned atomic.Int64
	acknowledged := make([][]string, writers)
	var group sync.WaitGroup
	var spanned [][]byte
	for at := 0; at < 1000; at++ {
		spanned = append(spanned, []byte(fmt.Sprintf("go/span-%04d", at)))
	}
	check(client.BatchPut(ctx, spanned, spanned))
	group.Add(1)
	go func() {
		defer group.Done()
		for !stopped.Load() {
			keys, values, err := client.Scan(ctx, []byte("go/span-"), []byte("go/span-~"), 10240)
			if err != nil {
				notScanned.Add(1)
				continue
			}
			same(keys, spanned)
			same(values, spanned)
			scanned.Add(1)
		}
	}()
	for writer := 0; writer < writers; writer++ {
		group.Add(1)
		go func(writer int) {
			defer group.Done()
			for at := 0; !stopped.Load(); at++ {
				key := fmt.Sprintf("go/load-%d-%d", writer, at)
				if client.Put(ctx, []byte(key), []byte(key)) == nil {
					acknowledged[writer] = append(acknowledged[writer], key)
					if done.Add(1)%100 == 0 {
						fmt.Println("a hundred more")
					}
				} else {
					failed.Add(1)
				}
			}
		}(writer)
	}
	_, err := bufio.NewReader(os.Stdin).ReadString('\n')
	check(err)
	stopped.Store(true)
	group.Wait()
	total := 0
	for _, keys := range acknowledged {
		total += len(keys)
		for len(keys) > 0 {
			count := min(len(keys), 500)
			var asked [][]byte
			for _, key := range keys[:count] {
				asked = append(asked, []byte(key))
			}
			found, err := client.BatchGet(ctx, asked)
			check(err)
			same(found, asked)
			keys = keys[count:]
		}
	}
	expect(total > 0, "nothing was written")
	expect(scanned.Load() > 0, "nothing was scanned")
	fmt.Printf("end: %d acknowledged, %d failed, %d scans, %d failed\n",
		total, failed.Load(), scanned.Load(), notScanned.Load())
}

func same(got, wanted [][]byte) {
	expect(len(got) == len(wanted), "%d instead of %d", len(got), len(wanted))
	for at := range got {
		expect(bytes.Equal(got[at], wanted[at]), "%q instead of %q", got[at], wanted[at])
	}
}

func expect(holds bool, format string, arguments ...any) {
	if !holds {
		panic(fmt.Sprintf(format, arguments...))
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

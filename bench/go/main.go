// franz-go doing one piece of work once, like bench/python/program.py: bench-go '{"work": "produce", ...}'.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type job struct {
	Work       string   `json:"work"`
	Bootstrap  string   `json:"bootstrap"`
	CA         *string  `json:"ca"`
	Topics     []string `json:"topics"`
	Partitions int32    `json:"partitions"`
	Count      int      `json:"count"`
	Size       int      `json:"size"`
	Acks       int      `json:"acks"`
	Codec      string   `json:"codec"`
	Reports    bool     `json:"reports"`
	Keys       bool     `json:"keys"`
	Threads    int      `json:"threads"`
	Group      string   `json:"group"`
	ValuesFile string   `json:"values_file"`
}

type answer struct {
	Seconds     float64 `json:"seconds"`
	Messages    int     `json:"messages"`
	Bytes       int     `json:"bytes"`
	LatenciesNs []int64 `json:"latencies_ns"`
}

var background = context.Background()

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (j *job) options() []kgo.Opt {
	options := []kgo.Opt{kgo.SeedBrokers(j.Bootstrap)}
	if j.CA != nil {
		pem, err := os.ReadFile(*j.CA)
		check(err)
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		options = append(options, kgo.DialTLSConfig(&tls.Config{RootCAs: pool}))
	}
	return options
}

func (j *job) values() [][]byte {
	content, err := os.ReadFile(j.ValuesFile)
	check(err)
	var values [][]byte
	for start := 0; start < len(content); start += j.Size {
		values = append(values, content[start:start+j.Size])
	}
	return values
}

func (j *job) producer(linger time.Duration) *kgo.Client {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	options := append(j.options(), kgo.ProducerLinger(linger), kgo.MaxBufferedRecords(1_000_000),
		kgo.ProducerBatchCompression(codecs[j.Codec]), kgo.MaxBufferedBytes(256<<20))
	if j.Acks == 1 {
		options = append(options, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	}
	client, err := kgo.NewClient(options...)
	check(err)
	check(client.Ping(background))
	return client
}

func (j *job) produce() (func() (int, int), *[]int64) {
	client, values := j.producer(5*time.Millisecond), j.values()
	keys := make([][]byte, 1000)
	for number := range keys {
		keys[number] = fmt.Appendf(nil, "%08d", number)
	}
	return func() (int, int) {
		var reported atomic.Int64
		promise := func(_ *kgo.Record, err error) {
			check(err)
			reported.Add(1)
		}
		if !j.Reports {
			promise = func(_ *kgo.Record, err error) { check(err) }
		}
		var group sync.WaitGroup
		for range j.Threads {
			group.Go(func() {
				for number := range j.Count / j.Threads {
					record := &kgo.Record{Topic: j.Topics[number%len(j.Topics)], Value: values[number%len(values)]}
					if j.Keys {
						record.Key = keys[number%len(keys)]
					}
					client.Produce(background, record, promise)
				}
			})
		}
		group.Wait()
		check(client.Flush(background))
		if j.Reports && int(reported.Load()) != j.Count {
			check(fmt.Errorf("%d reports for %d messages", reported.Load(), j.Count))
		}
		return j.Count, j.Count * j.Size
	}, nil
}

func (j *job) latency() (func() (int, int), *[]int64) {
	client, value := j.producer(0), j.values()[0]
	send := func() {
		check(client.ProduceSync(background, &kgo.Record{Topic: j.Topics[0], Value: value}).FirstErr())
	}
	send()
	var lock sync.Mutex
	latencies := []int64{}
	return func() (int, int) {
		var group sync.WaitGroup
		for range j.Threads {
			group.Go(func() {
				var mine []int64
				for range j.Count / j.Threads {
					started := time.Now()
					send()
					mine = append(mine, time.Since(started).Nanoseconds())
				}
				lock.Lock()
				defer lock.Unlock()
				latencies = append(latencies, mine...)
			})
		}
		group.Wait()
		return j.Count + 1, (j.Count + 1) * j.Size
	}, &latencies
}

func (j *job) first() (func() (int, int), *[]int64) {
	return func() (int, int) {
		record := &kgo.Record{Topic: j.Topics[0], Value: j.values()[0]}
		check(j.producer(0).ProduceSync(background, record).FirstErr())
		return 1, j.Size
	}, nil
}

func (j *job) read(client *kgo.Client, count int) (int, int) {
	number, size := 0, 0
	for number < count {
		limited, cancel := context.WithTimeout(background, 10*time.Second)
		fetches := client.PollRecords(limited, min(10_000, count-number))
		cancel()
		if fetches.NumRecords() == 0 {
			check(fetches.Err())
			break
		}
		fetches.EachRecord(func(record *kgo.Record) {
			number++
			size += len(record.Value)
		})
	}
	return number, size
}

func (j *job) consume() (func() (int, int), *[]int64) {
	every := map[string]map[int32]kgo.Offset{}
	for _, topic := range j.Topics {
		every[topic] = map[int32]kgo.Offset{}
		for partition := range j.Partitions {
			every[topic][partition] = kgo.NewOffset().AtStart()
		}
	}
	client, err := kgo.NewClient(j.options()...)
	check(err)
	check(client.Ping(background))
	return func() (int, int) {
		if j.Count == 0 {
			return 0, 0
		}
		client.AddConsumePartitions(every)
		return j.read(client, j.Count)
	}, nil
}

func (j *job) group() (func() (int, int), *[]int64) {
	return func() (int, int) {
		options := append(j.options(), kgo.ConsumerGroup(j.Group), kgo.ConsumeTopics(j.Topics...),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		client, err := kgo.NewClient(options...)
		check(err)
		return j.read(client, 1)
	}, nil
}

func main() {
	var j job
	check(json.Unmarshal([]byte(os.Args[1]), &j))
	works := map[string]func(*job) (func() (int, int), *[]int64){
		"produce": (*job).produce, "latency": (*job).latency, "first": (*job).first,
		"consume": (*job).consume, "group": (*job).group,
		"nothing": func(*job) (func() (int, int), *[]int64) { return func() (int, int) { return 0, 0 }, nil },
	}
	work, latencies := works[j.Work](&j)
	started := time.Now()
	messages, size := work()
	result := answer{time.Since(started).Seconds(), messages, size, []int64{}}
	if latencies != nil {
		result.LatenciesNs = *latencies
	}
	check(json.NewEncoder(os.Stdout).Encode(result))
	_, _ = io.ReadAll(os.Stdin)
	os.Exit(0)
}

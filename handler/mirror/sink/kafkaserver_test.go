package sink

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/framegate/framegate/resolver/spec"
)

// gate is the listener of a broker, which can be gone for a while: connections to its address are refused, and those that
// were open are ended.
type gate struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once

	mu    sync.Mutex // guards what follows
	ln    net.Listener
	addr  net.Addr
	conns []net.Conn
	wait  sync.WaitGroup
}

func newGate(ln net.Listener) *gate {
	g := &gate{accepted: make(chan net.Conn), closed: make(chan struct{}), addr: ln.Addr(), ln: ln}
	g.wait.Go(func() { g.serve(ln) })
	return g
}

func (g *gate) serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		g.mu.Lock()
		g.conns = append(g.conns, c)
		g.mu.Unlock()
		select {
		case g.accepted <- c:
		case <-g.closed:
			_ = c.Close()
		}
	}
}

// shut makes the broker be gone.
func (g *gate) shut() {
	g.mu.Lock()
	_ = g.ln.Close()
	g.mu.Unlock()
	g.wait.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		_ = c.Close()
	}
	g.conns = nil
}

// open makes it be back.
func (g *gate) open(t testing.TB) {
	ln, err := net.Listen("tcp", g.addr.String())
	require.NoError(t, err)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ln = ln
	g.wait.Go(func() { g.serve(ln) })
}

// Accept implements net.Listener for kfake.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.accepted:
		return c, nil
	case <-g.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (g *gate) Addr() net.Addr { return g.addr }

// Close implements net.Listener.
func (g *gate) Close() error {
	g.once.Do(func() { close(g.closed) })
	g.shut()
	return nil
}

// brokers is a cluster of kfake.
type brokers struct {
	*kfake.Cluster
	gates []*gate
}

// startBrokers starts n brokers with a topic t of partitions, none if that is 0, until the test has ended.
func startBrokers(t testing.TB, n, partitions int, opts ...kfake.Opt) *brokers {
	t.Helper()
	b := &brokers{}
	opts = append(opts, kfake.NumBrokers(n), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		ln, err := net.Listen(network, address)
		if err != nil {
			return nil, err
		}
		b.gates = append(b.gates, newGate(ln))
		return b.gates[len(b.gates)-1], nil
	}))
	if partitions > 0 {
		opts = append(opts, kfake.SeedTopics(int32(partitions), "t"))
	}
	var err error
	b.Cluster, err = kfake.NewCluster(opts...)
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b
}

// doc returns a document for the topic t.
func (b *brokers) doc() *spec.Kafka { return &spec.Kafka{Brokers: b.ListenAddrs(), Topic: "t"} }

// consume returns n records of the topic t, and requires that there are no more.
func (b *brokers) consume(t testing.TB, n int, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.ListenAddrs()...), kgo.ConsumeTopics("t"))...)
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var all []*kgo.Record
	for len(all) < n {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		all = append(all, fetches.Records()...)
	}
	var end int64
	for _, p := range b.PartitionInfos("t") {
		end += p.HighWatermark
	}
	require.EqualValues(t, n, end, "records of all partitions")
	return all
}

// createTopic creates the topic t.
func (b *brokers) createTopic(t testing.TB) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.ListenAddrs()...))
	require.NoError(t, err)
	defer client.Close()
	req := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "t", 1, 1
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(context.Background(), client)
	require.NoError(t, err)
	require.Zero(t, resp.Topics[0].ErrorCode)
}

// failProduces answers produce requests with an error until what it returns is called.
func (b *brokers) failProduces(code int16) (stop func()) {
	var stopped atomic.Bool
	b.answerProduces(func(*kmsg.RecordBatch) int16 {
		if stopped.Load() {
			return 0
		}
		return code
	})
	return func() { stopped.Store(true) }
}

// answerProduces answers with the codes that judge returns for their batch those produce requests for which that is not 0.
func (b *brokers) answerProduces(judge func(*kmsg.RecordBatch) int16) {
	b.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		req := r.(*kmsg.ProduceRequest)
		resp, refused := req.ResponseKind().(*kmsg.ProduceResponse), false
		for _, t := range req.Topics {
			topic := kmsg.NewProduceResponseTopic()
			topic.Topic = t.Topic
			for _, p := range t.Partitions {
				var batch kmsg.RecordBatch
				if err := batch.ReadFrom(p.Records); err != nil {
					panic(err)
				}
				partition := kmsg.NewProduceResponseTopicPartition()
				partition.Partition, partition.ErrorCode = p.Partition, judge(&batch)
				refused = refused || partition.ErrorCode != 0
				topic.Partitions = append(topic.Partitions, partition)
			}
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, refused
	})
}

// plainRecords returns the records of a batch, decompressed.
func plainRecords(b *kmsg.RecordBatch) []byte {
	if b.Attributes&7 == 0 {
		return b.Records
	}
	plain, err := s2.Decode(nil, b.Records) // the client's preference is Snappy
	if err != nil {
		panic(err)
	}
	return plain
}

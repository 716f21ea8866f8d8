package sink

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/framegate/framegate/resolver/spec"
)

// BenchmarkKafka delivers messages of 100 random bytes with the metadata of an ordinary call to a broker of kfake, in the same
// process, over a socket. The caller offers again what finds no room, a little later.
func BenchmarkKafka(b *testing.B) {
	for _, q := range []spec.Queue{{}, {Messages: 20_000, Bytes: 16 << 20}} {
		b.Run(fmt.Sprintf("queue=%d", q.MaxMessages()), func(b *testing.B) {
			c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "t"))
			require.NoError(b, err)
			defer c.Close()
			s, err := NewKafka(&spec.Kafka{Brokers: c.ListenAddrs(), Topic: "t"}, Config{Name: "bench", Queue: q})
			require.NoError(b, err)
			events := make([]*Event, 4096)
			for i := range events {
				events[i] = numbered(i)
				events[i].Payload = make([]byte, 100)
				_, _ = rand.Read(events[i].Payload)
			}
			begin := time.Now()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				for !s.Offer(events[i%len(events)]) {
					time.Sleep(100 * time.Microsecond)
				}
			}
			s.Close(context.Background())
			b.ReportMetric(float64(s.Stats().Delivered)/time.Since(begin).Seconds(), "messages/s")
			require.EqualValues(b, b.N, s.Stats().Delivered)
		})
	}
}

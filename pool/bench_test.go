package pool

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/framegate/framegate/pool/policy"
)

func BenchmarkOpenClose(b *testing.B) {
	server := startServer(b, nil)
	p := New(Config{ConnectTimeout: patience, IdleTimeout: -1}, dialer{}, discard)
	defer p.Close()
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s, err := p.Default().Open(context.Background(), server.addr, hdr, OpenOptions{})
			if err != nil {
				b.Fatal(err)
			}
			s.Close()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				s, err := p.Default().Open(context.Background(), server.addr, hdr, OpenOptions{})
				if err != nil {
					b.Fatal(err)
				}
				s.Close()
			}
		})
	})
	b.Run("slot", func(b *testing.B) { // without the stream itself
		b.ReportAllocs()
		e, err := p.Default().endpoint(server.addr)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			e.take(nil).Release()
		}
	})
}

// A slot that becomes free costs the same however many wait for it.
func BenchmarkHandOver(b *testing.B) {
	for _, waiters := range []int{10, 1000} {
		b.Run(fmt.Sprint(waiters), func(b *testing.B) {
			server := startServer(b, nil)
			p := New(Config{ConnectTimeout: 6 * patience, IdleTimeout: -1, Connections: policy.Connections{Max: 1}, StreamsPerConnection: 1, WhenFull: policy.WhenFullWait}, dialer{}, discard)
			defer p.Close()
			b.ReportAllocs()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for range waiters {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						s, err := p.Default().Open(context.Background(), server.addr, hdr, OpenOptions{})
						if err != nil {
							b.Error(err)
							return
						}
						s.Close()
					}
				})
			}
			wg.Wait()
		})
	}
}

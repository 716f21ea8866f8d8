package pool

import (
	"context"
	"testing"
)

func BenchmarkOpenClose(b *testing.B) {
	server := startServer(b, nil)
	p := New(Config{ConnectTimeout: patience, IdleTimeout: -1}, discard)
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
			e.take(nil).release()
		}
	})
}

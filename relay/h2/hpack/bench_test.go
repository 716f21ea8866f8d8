package hpack

import (
	"bytes"
	"fmt"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// request is what grpc-go's client sends with two metadata fields, less the timeout.
var request = []pair{
	{":method", "POST"}, {":scheme", "http"}, {":path", "/helloworld.Greeter/SayHello"}, {":authority", "greeter.internal:8443"},
	{"content-type", "application/grpc"}, {"user-agent", "grpc-go/1.85.0"}, {"te", "trailers"}, {"grpc-accept-encoding", "gzip"},
	{"x-tenant", "blue"}, {"x-caller", "checkout-7d9f"},
}

var (
	response = []pair{{":status", "200"}, {"content-type", "application/grpc"}}
	trailers = []pair{{"grpc-status", "0"}, {"grpc-message", ""}}
)

// timeouts are those of calls with a deadline of one second, as grpc-go's client writes them some microseconds after it was set.
func timeouts(n int) (out []pair) {
	for i := range n {
		out = append(out, pair{"grpc-timeout", fmt.Sprintf("%du", 999990-i*7919%n)})
	}
	return out
}

// sets are the header sets of the benchmarks: n of each, which differ in the timeout, if any.
var sets = []struct {
	name string
	of   func(n int) [][]pair
}{
	{"request", func(n int) (out [][]pair) {
		for _, timeout := range timeouts(n) {
			out = append(out, append(request[:len(request):len(request)], timeout))
		}
		return out
	}},
	{"request_no_timeout", func(n int) [][]pair { return repeat(request, n) }},
	{"response", func(n int) [][]pair { return repeat(response, n) }},
	{"trailers", func(n int) [][]pair { return repeat(trailers, n) }},
}

func repeat(set []pair, n int) (out [][]pair) {
	for range n {
		out = append(out, set)
	}
	return out
}

func intern(in *Interner, set []pair) (out []*Field) {
	for _, p := range set {
		out = append(out, in.Field(p.name, p.value, false))
	}
	return out
}

func BenchmarkEncoder(b *testing.B) {
	for _, set := range sets {
		b.Run(set.name, func(b *testing.B) {
			in := NewInterner(4096, 1024)
			var fields [][]*Field
			for _, s := range set.of(256) {
				fields = append(fields, intern(in, s))
			}
			e := NewEncoder()
			var dst []byte
			for range 8 {
				dst = e.Append(dst[:0], fields[0])
			}
			total := 0
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				dst = e.Append(dst[:0], fields[i&255])
				total += len(dst)
				i++
			}
			b.ReportMetric(float64(total)/float64(i), "B/block")
		})
	}
}

// BenchmarkDecoder reads what the encoder of golang.org/x/net writes, which is that of grpc-go's client: every field goes into the
// table at first sight, timeouts too.
func BenchmarkDecoder(b *testing.B) {
	for _, set := range sets {
		b.Run(set.name, func(b *testing.B) {
			var buf bytes.Buffer
			enc := hpack.NewEncoder(&buf)
			var blocks [][]byte
			total := 0
			const n = 4096
			for _, s := range set.of(n) {
				for _, p := range s {
					enc.WriteField(hpack.HeaderField{Name: p.name, Value: p.value})
				}
				blocks = append(blocks, bytes.Clone(buf.Bytes()))
				total += buf.Len()
				buf.Reset()
			}
			in := NewInterner(4096, 1024)
			d := NewDecoder(in, 4096)
			var dst []*Field
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				var err error
				if dst, err = d.Decode(dst[:0], blocks[i], unlimited); err != nil {
					b.Fatal(err)
				}
				if i++; i == n {
					i, d = 0, NewDecoder(in, 4096)
				}
			}
			b.ReportMetric(float64(total)/n, "B/block")
		})
	}
}

// BenchmarkInterner asks for a timeout as the decoder does: one of 256 that come again and again, or one that never came before.
func BenchmarkInterner(b *testing.B) {
	name := []byte("grpc-timeout")
	for _, c := range []struct {
		name   string
		values int
	}{{"again", 256}, {"unique", 1 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			var values [][]byte
			for i := range c.values {
				values = append(values, fmt.Appendf(nil, "%dn", 10_000_000+i))
			}
			in := NewInterner(4096, 1024)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				in.field(name, values[i], false)
				if i++; i == len(values) {
					i = 0
				}
			}
		})
	}
}

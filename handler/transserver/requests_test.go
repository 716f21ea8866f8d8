package transserver

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/framegate/framegate/pool/h2conn"
)

// requestOf returns the fields of a request as grpc-go sends it, and then those of pairs.
func requestOf(pairs ...string) []hpack.HeaderField {
	pairs = append([]string{
		":method", "POST", ":scheme", "http", ":path", "/echo.Echo/Say", ":authority", "echo.example.com:8888",
		"content-type", "application/grpc", "user-agent", "grpc-go/1.85.0", "te", "trailers",
	}, pairs...)
	var fields []hpack.HeaderField
	for i := 0; i < len(pairs); i += 2 {
		fields = append(fields, hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return fields
}

// FuzzFaultOf looks for a field that makes the judging of requests panic, or whose text comes out as it came in.
func FuzzFaultOf(f *testing.F) {
	for _, pair := range [][2]string{{"grpc-timeout", "1S"}, {"biz-extra", `{"a":"b"}`}, {"grpc-status-details-bin", "CAUSA3h5eg"}, {":method", "GET"}, {"\xff", "\x00"}} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		fields := append(requestOf(), hpack.HeaderField{Name: name, Value: value})
		fault, detail := faultOf(&h2conn.Block{Stream: 1, Fields: fields})
		require.Equal(t, fault == "", detail == "")
		for _, c := range []byte(detail) {
			require.True(t, ' ' <= c && c <= '~', "%q", detail)
		}
	})
}

// Whether a block came before changes nothing in what becomes of a stream that the client must not open.
func TestRequests_StreamsWithoutRightAreForTheTransport(t *testing.T) {
	t.Parallel()
	r := &requests{}
	require.Equal(t, h2conn.Pass, r.Judge(&h2conn.Block{Stream: 5, Fields: requestOf()}))
	for _, stream := range []uint32{0, 2, 6} {
		require.Equal(t, h2conn.Rewrite, r.Judge(&h2conn.Block{Stream: stream, Fields: requestOf()}), stream)
		require.Equal(t, h2conn.Pass, r.Judge(&h2conn.Block{Stream: stream, Again: true}), stream)
	}
	require.Equal(t, h2conn.Pass, r.Judge(&h2conn.Block{Stream: 7, Again: true}))
	require.Equal(t, h2conn.End, r.Judge(&h2conn.Block{Stream: 7, EndStream: true, Again: true}))
}

// repeated gives the same bytes with each Read.
type repeated struct{ data []byte }

func (r *repeated) Read(p []byte) (int, error) { return copy(p, r.data), nil }

// What a request costs of which the client has sent the same before, but for what differs from call to call.
func BenchmarkRequests(b *testing.B) {
	var wire, block bytes.Buffer
	fr, enc := http2.NewFramer(&wire, nil), hpack.NewEncoder(&block)
	request := func() {
		block.Reset()
		for _, f := range requestOf() {
			_ = enc.WriteField(f)
		}
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
		_ = fr.WriteData(1, true, make([]byte, 105))
	}
	request()
	src := &repeated{bytes.Clone(wire.Bytes())}
	r := &requests{}
	anew := judgeFunc(func(b *h2conn.Block) h2conn.Verdict {
		r.highest = 0 // each is another stream
		return r.Judge(b)
	})
	blocks := h2conn.NewBlocks(src, h2conn.BlocksConfig{Judge: anew, MaxList: 64 << 10, MaxBytes: 1 << 20})
	_, _ = io.ReadFull(blocks, make([]byte, len(src.data)))
	wire.Reset()
	request()
	src.data = bytes.Clone(wire.Bytes())
	p := make([]byte, len(src.data))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = io.ReadFull(blocks, p)
	}
}

type judgeFunc func(b *h2conn.Block) h2conn.Verdict

func (f judgeFunc) Judge(b *h2conn.Block) h2conn.Verdict { return f(b) }

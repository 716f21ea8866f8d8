package h2

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// longField is a field over the limit of small.
var (
	small     = Config{MaxHeaderList: 1000}
	longField = "x=" + strings.Repeat("y", 1000)
)

// A request that is too long costs its stream only, may still be answered, and HPACK stays in step.
func TestServer_HeaderListTooLong(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, small)
	p.events.onHead = func(s *Stream, h *Head) {
		if h == nil {
			s.WriteHeaders([]*field{fieldOK}, true)
			s.Reset(http2.ErrCodeNo)
		}
	}
	long := append(encode(":method=POST", ":scheme=http", ":path=/", longField), indexingField("k", 5)...)
	p.send(raw(http2.FrameHeaders, flagEndHeaders, 1, long...))
	require.Equal(t, frames("HEADERS 1 :status=200 END", "RST_STREAM 1 NO_ERROR"), p.output())
	require.Equal(t, []string{"head 1 too large"}, p.events.take())
	p.send(data(flagEndStream, 1, "was under way"))

	var got []string
	p.events.onHead = func(_ *Stream, h *Head) { got = append(got, h.Fields[3].Name, h.Fields[3].Value) }
	p.send(raw(http2.FrameHeaders, flagEndHeaders, 3, append(encode(":method=POST", ":scheme=http", ":path=/"), 0xbe)...))
	require.Equal(t, []string{"k", "vvvvv"}, got)
	require.Empty(t, p.output())
}

// The rest of a request that is too long comes, until the owner resets the stream.
func TestServer_HeaderListTooLongGoesOn(t *testing.T) {
	t.Parallel()
	head := append(encode(":method=POST", ":scheme=http", ":path=/", "content-length=1"), encode(longField)...)
	runExchanges(t, func(t testing.TB, _ Config) *peer { return newServerPeer(t, small) }, []exchange{
		{name: "with END_STREAM", in: raw(http2.FrameHeaders, flagEndHeaders|flagEndStream, 1, head...), events: []string{"head 1 too large"}},
		{name: "then DATA", in: cat(raw(http2.FrameHeaders, flagEndHeaders, 1, head...), data(flagEndStream, 1, "xyz")), events: []string{"head 1 too large", `data 1 "xyz" END`}},
		{name: "then trailers", in: cat(raw(http2.FrameHeaders, flagEndHeaders, 1, head...), heads(flagEndStream, 1, "x=y")), events: []string{"head 1 too large", "trailers 1 END"}},
		{name: "on itself", in: raw(http2.FrameHeaders, flagEndHeaders|flagPriority, 1, cat(be(1), []byte{1}, head)...), out: frames("RST_STREAM 1 PROTOCOL_ERROR"), events: []string{"malformed 1", "reset 1 PROTOCOL_ERROR"}},
		{name: "trailers that are too long", in: cat(request(0, 1, "/"), heads(flagEndStream, 1, longField)), events: []string{"head 1", "head 1 too large"}},
		{name: "trailers that are too long and no end", in: cat(request(0, 1, "/"), heads(0, 1, longField)), out: frames("RST_STREAM 1 PROTOCOL_ERROR"), events: []string{"head 1", "reset 1 PROTOCOL_ERROR"}},
		{name: "of a stream that was reset", before: first(request(0, 1, "/reset")), in: heads(flagEndStream, 1, longField)},
	})
}

// A request that is too long and has ended is done when it was answered.
func TestServer_HeaderListTooLongIsDone(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, small)
	p.events.onHead = func(s *Stream, _ *Head) {
		require.True(t, s.PeerEnded())
		s.WriteHeaders([]*field{fieldOK}, true)
	}
	p.send(request(flagEndStream, 1, "/", longField))
	require.Equal(t, frames("HEADERS 1 :status=200 END"), p.output())
	require.Equal(t, []string{"head 1 too large", "done 1"}, p.events.take())
}

func TestClient_HeaderListTooLong(t *testing.T) {
	t.Parallel()
	runExchanges(t, func(t testing.TB, _ Config) *peer { return newClientPeer(t, small) }, []exchange{
		{name: "an answer", before: opened(1), in: answer(0, 1, longField), events: []string{"head 1 too large"}},
		{name: "an answer of trailers only", before: opened(1), in: answer(flagEndStream, 1, longField), events: []string{"head 1 too large", "done 1"}},
		{name: "trailers", before: opened(1), in: cat(answer(0, 1), heads(flagEndStream, 1, longField)), events: []string{"head 1 200", "head 1 too large", "done 1"}},
	})
}

// HPACK stays in step whatever becomes of the stream of a block.
func TestServer_HeaderTableStaysInStep(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		before []byte
		id     uint32
		fields []string
	}{
		"malformed":           {nil, 1, []string{":method=POST"}},
		"upper case":          {nil, 1, []string{":method=POST", ":scheme=http", ":path=/", "X=y"}},
		"of a reset stream":   {request(0, 1, "/reset"), 1, []string{"x=y"}},
		"of the peer's reset": {cat(request(0, 1, "/"), rst(1, 0)), 1, []string{"x=y"}},
		"refused":             {cat(request(0, 1, "/"), request(0, 3, "/")), 5, []string{":method=POST", ":scheme=http", ":path=/"}},
		"after END_STREAM":    {request(flagEndStream, 1, "/"), 1, []string{"x=y"}},
		"trailers, no end":    {request(0, 1, "/"), 1, []string{"x=y"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newServerPeer(t, Config{MaxConcurrentStreams: 2})
			p.send(x.before, raw(http2.FrameHeaders, flagEndHeaders, x.id, append(encode(x.fields...), indexingField("k", 5)...)...))
			for id := range p.events.streams {
				p.send(rst(id, 0))
			}
			var got []string
			p.events.onHead = func(_ *Stream, h *Head) { got = append(got, h.Fields[3].Name, h.Fields[3].Value) }
			p.send(raw(http2.FrameHeaders, flagEndHeaders, 7, append(encode(":method=POST", ":scheme=http", ":path=/"), 0xbe)...))
			require.Nil(t, p.conn.Failure())
			require.Equal(t, []string{"k", "vvvvv"}, got)
		})
	}
}

// What a Head says of a request, of an answer and of trailers.
func TestHead_Fields(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{})
	var h Head
	p.events.onHead = func(_ *Stream, got *Head) { h = *got }
	p.send(request(0, 1, "/p", "content-length=3", "te=trailers"))
	require.Equal(t, [4]string{"POST", "http", "/p", "a"}, [4]string{h.Method.Value, h.Scheme.Value, h.Path.Value, h.Authority.Value})
	require.Equal(t, [3]any{0, int64(3), 6}, [3]any{h.Status, h.ContentLength, len(h.Fields)})
	p.send(data(0, 1, "abc"), heads(flagEndStream, 1, "k=v"))
	require.Equal(t, Head{Fields: h.Fields, ContentLength: -1, End: true, Trailer: true}, h)
	require.Equal(t, "k", h.Fields[0].Name)

	p = newClientPeer(t, Config{})
	p.open(true)
	p.events.onHead = func(_ *Stream, got *Head) { h = *got }
	p.send(answer(0, 1))
	require.Equal(t, Head{Fields: h.Fields, Status: 200, ContentLength: -1}, h)
}

// A block of more than a frame goes out as HEADERS and CONTINUATIONs (RFC 9113 §6.10).
func TestConn_SplitsLongBlocks(t *testing.T) {
	t.Parallel()
	for _, n := range []int{16300, 16384, 32700, 32800, 49000, 100_000} {
		p := newServerPeer(t, Config{})
		p.send(request(flagEndStream, 1, "/"))
		p.framer.MaxHeaderListSize = 1 << 20
		s := p.events.streams[1]
		s.WriteHeaders(append([]*field{fieldOK}, fieldList("x="+strings.Repeat("y", n))...), true)
		require.Equal(t, frames("HEADERS 1 :status=200 x="+strings.Repeat("y", n)+" END"), p.output())
	}
}

package h2

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// The owner of a malformed request may answer it, and reset its stream. The connection resets it otherwise (RFC 9113 §8.1.1).
func TestServer_MalformedRequestIsHandedOver(t *testing.T) {
	t.Parallel()
	answered := frames("HEADERS 1 :status=200 END")
	for name, x := range map[string]struct {
		do     func(p *peer, s *Stream)
		out    []string
		events []string // behind "malformed"
	}{
		"nothing":        {func(*peer, *Stream) {}, frames("RST_STREAM 1 PROTOCOL_ERROR"), []string{"reset 1 PROTOCOL_ERROR"}},
		"an answer":      {func(_ *peer, s *Stream) { s.WriteHeaders([]*field{fieldOK}, true) }, append(answered, "RST_STREAM 1 PROTOCOL_ERROR"), []string{"reset 1 PROTOCOL_ERROR"}},
		"half an answer": {func(_ *peer, s *Stream) { s.WriteHeaders([]*field{fieldOK}, false) }, frames("HEADERS 1 :status=200", "RST_STREAM 1 PROTOCOL_ERROR"), []string{"reset 1 PROTOCOL_ERROR"}},
		"an answer with DATA and trailers": {func(_ *peer, s *Stream) {
			s.WriteHeaders([]*field{fieldOK}, false)
			s.WriteData([]byte("why"), false)
			s.WriteTrailers(fieldList("grpc-status=13"))
		}, frames("HEADERS 1 :status=200", `DATA 1 "why"`, "HEADERS 1 grpc-status=13 END", "RST_STREAM 1 PROTOCOL_ERROR"), []string{"reset 1 PROTOCOL_ERROR"}},
		"an answer over the window": {func(_ *peer, s *Stream) {
			s.WriteHeaders([]*field{fieldOK}, false)
			s.WriteData(make([]byte, 65536), true)
		}, frames("HEADERS 1 :status=200", "DATA 1 16384", "DATA 1 16384", "DATA 1 16384", "DATA 1 16383", "RST_STREAM 1 PROTOCOL_ERROR"), []string{"reset 1 PROTOCOL_ERROR"}},
		"an answer and a reset": {func(_ *peer, s *Stream) {
			s.WriteHeaders([]*field{fieldOK}, true)
			s.Reset(http2.ErrCodeNo)
		}, append(answered, "RST_STREAM 1 NO_ERROR"), nil},
		"a reset": {func(_ *peer, s *Stream) { s.Reset(http2.ErrCodeInternal) }, frames("RST_STREAM 1 INTERNAL_ERROR"), nil},
		"a reset, and the memory is used again": {func(p *peer, s *Stream) {
			s.Reset(http2.ErrCodeInternal)
			p.conn.lastID = 3
			p.conn.open(s, 3)
		}, frames("RST_STREAM 1 INTERNAL_ERROR"), nil},
		"the connection's end": {func(p *peer, _ *Stream) { p.conn.Close(&ConnError{}) }, nil, []string{"reset 1 NO_ERROR conn"}},
	} {
		for end, flags := range map[string]byte{"": 0, " END": flagEndStream} {
			t.Run(name+end, func(t *testing.T) {
				t.Parallel()
				p := newServerPeer(t, Config{})
				p.events.onHead = func(s *Stream, h *Head) {
					require.Equal(t, Head{Fields: h.Fields, End: flags != 0, ContentLength: -1, Problem: "no :method"}, *h)
					require.Equal(t, ":scheme", h.Fields[0].Name)
					require.False(t, s.PeerEnded())
					x.do(p, s)
				}
				p.send(heads(flags, 1, ":scheme=http", "content-length=5"))
				require.Equal(t, x.out, p.output())
				require.Equal(t, append([]string{"malformed 1" + end}, x.events...), p.events.take())
				require.Zero(t, p.memory.budget.Held())
				require.Nil(t, p.conn.ready.first)

				if p.conn.Failure() == nil && flags == 0 { // what was under way
					p.events.onHead = nil
					p.send(data(0, 1, "x"), data(flagEndStream, 1, "y"), request(flagEndStream, 5, "/answer"))
					require.Equal(t, frames("HEADERS 5 :status=200 END"), p.output())
					require.Equal(t, []string{"head 5 END", "done 5"}, p.events.take())
				}
			})
		}
	}
}

// A malformed request costs the same whatever its owner does with it.
func TestLimits_MalformedRequests(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(s *Stream){
		"nothing":               func(*Stream) {},
		"an answer":             func(s *Stream) { s.WriteHeaders([]*field{fieldOK}, true) },
		"a reset":               func(s *Stream) { s.Reset(http2.ErrCodeProtocol) },
		"an answer and a reset": func(s *Stream) { s.WriteHeaders([]*field{fieldOK}, true); s.Reset(http2.ErrCodeNo) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newServerPeer(t, Config{})
			p.events.onHead = func(s *Stream, _ *Head) { do(s) }
			n := 0
			for ; p.conn.Failure() == nil && n < 2000; n++ {
				p.send(heads(flagEndStream, uint32(2*n+1), ":method=POST"))
				p.output()
			}
			require.NotNil(t, p.conn.Failure())
			require.Equal(t, [2]any{http2.ErrCodeEnhanceYourCalm, TooManyProvokedResets}, [2]any{p.conn.Failure().Code, p.conn.Failure().Offence})
			require.Equal(t, 1100, n, "1,100 are saved up, and each costs two and gives one back")
		})
	}
}

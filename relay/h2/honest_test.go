package h2

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// quiet takes what the Conn sends, and returns how many bytes of DATA were sent. It parses nothing.
func (p *peer) quiet() (sent int) {
	p.conn.Flushed()
	for len(p.conn.Output()) > 0 {
		for b := p.conn.Output(); len(b) > 0; b = b[frameHeaderLen+payloadLen(b):] {
			if http2.FrameType(b[3]) == http2.FrameData {
				sent += payloadLen(b)
			}
		}
		p.conn.Wrote(len(p.conn.Output()))
	}
	return sent
}

// Honest use, far beyond a benchmark's, is never charged for more than it has earned. No time passes in these tests, so that
// nothing is refilled.
func TestHonest_Server(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(p *peer){
		"100,000 calls": func(p *peer) {
			for i := range uint32(100_000) {
				id := 2*i + 1
				p.send(request(0, id, "/consume"), data(flagEndStream, id, "hello"))
				p.reply(id, 5)
			}
		},
		"hedging: every second call is canceled at once": func(p *peer) {
			for i := range uint32(100_000) {
				id := 2*i + 1
				p.send(request(0, id, "/consume"), data(flagEndStream, id, "hello"))
				if i%2 == 1 {
					p.send(rst(id, http2.ErrCodeCancel))
				}
				p.reply(id, 5)
			}
		},
		"a PING for each call, as some estimate bandwidth": func(p *peer) {
			for i := range uint32(100_000) {
				id := 2*i + 1
				p.send(request(flagEndStream, id, "/"), raw(http2.FramePing, 0, 0, make([]byte, 8)...))
				p.reply(id, 5)
			}
		},
		"a window update of stream and connection for each message": func(p *peer) {
			p.send(request(0, 1, "/"))
			s := p.events.streams[1]
			s.WriteHeaders([]*field{fieldOK}, false)
			for range 100_000 {
				s.WriteData([]byte("hello"), false)
				p.send(update(0, 5), update(1, 5))
				p.quiet()
			}
		},
		"windows given back in pieces of 256 bytes": func(p *peer) {
			p.send(request(0, 1, "/"))
			s := p.events.streams[1]
			s.WriteHeaders([]*field{fieldOK}, false)
			for range 2000 {
				s.WriteData(make([]byte, 16384), false)
				p.quiet()
				for range 64 {
					p.send(update(0, 256), update(1, 256))
				}
			}
		},
		"1,000 streams canceled together at a deadline, 100 times": func(p *peer) {
			id := uint32(1)
			for range 100 {
				from := id
				for ; id < from+2000; id += 2 {
					p.send(request(0, id, "/consume"), data(0, id, "hello"))
				}
				p.now += 20 * time.Millisecond
				for gone := from; gone < id; gone += 2 {
					p.send(rst(gone, http2.ErrCodeCancel))
				}
				p.quiet()
			}
			p.now = 0
		},
		"1,000 streams that this end resets while their messages are under way": func(p *peer) {
			for id := uint32(1); id < 2001; id += 2 {
				p.send(request(0, id, "/consume"))
			}
			for _, s := range p.events.streams {
				s.Reset(http2.ErrCodeInternal)
			}
			for range 50 {
				for id := uint32(1); id < 2001; id += 2 {
					p.send(data(0, id, "hello"))
				}
				p.quiet()
			}
			for id := uint32(1); id < 1001; id += 2 {
				p.send(data(flagEndStream, id, ""))
			}
			for id := uint32(1001); id < 2001; id += 2 {
				p.send(heads(flagEndStream, id, "x=y"))
			}
		},
		"an answer to each of 20,000 PINGs": func(p *peer) {
			for range 20_000 {
				p.conn.Ping([8]byte{})
				p.send(raw(http2.FramePing, flagAck, 0, make([]byte, 8)...))
				p.quiet()
			}
		},
		"uploads": func(p *peer) {
			p.send(request(0, 1, "/consume"))
			chunk := data(0, 1, strings.Repeat("x", 16384))
			for range 20_000 {
				p.send(chunk)
				p.quiet()
			}
		},
		"a stream of small messages and a keepalive each thousand": func(p *peer) {
			p.send(request(0, 1, "/consume"))
			for i := range 100_000 {
				p.send(data(0, 1, "hello"))
				if i%1000 == 0 {
					p.send(raw(http2.FramePing, 0, 0, make([]byte, 8)...))
				}
				p.quiet()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newServerPeer(t, Config{})
			p.events.deaf = true
			use(p)
			p.quiet()
			require.Nil(t, p.conn.Failure())
		})
	}
}

// reply answers a call with n bytes and trailers, and gives the windows back at once.
func (p *peer) reply(id uint32, n int) {
	if s := p.events.streams[id]; s != nil {
		s.WriteHeaders([]*field{fieldOK}, false)
		s.WriteData(make([]byte, n), false)
		s.WriteTrailers([]*field{fieldOK})
		p.send(update(0, uint32(n)))
	}
	p.quiet()
}

// The same for a client: a server that answers, cancels and pings as real ones do.
func TestHonest_Client(t *testing.T) {
	t.Parallel()
	p := newClientPeer(t, Config{})
	p.events.deaf = true
	for i := range uint32(100_000) {
		s := p.open(false)
		s.WriteData([]byte("hello"), true)
		id := s.ID()
		p.send(update(0, 5), raw(http2.FramePing, 0, 0, make([]byte, 8)...), answer(0, id), data(0, id, "hello"))
		switch i % 3 {
		case 0:
			p.send(heads(flagEndStream, id, "grpc-status=0"))
		case 1:
			p.send(heads(flagEndStream, id, "grpc-status=0"), rst(id, 0)) // as grpc-go does if the request has not ended
		default:
			s.Reset(http2.ErrCodeCancel) // the answer is under way
			p.send(data(0, id, "hello"), heads(flagEndStream, id, "grpc-status=0"))
		}
		p.quiet()
	}
	require.Nil(t, p.conn.Failure())
	require.Zero(t, p.conn.Streams())
}

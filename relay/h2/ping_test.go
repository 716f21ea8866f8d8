package h2

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// PINGs of a client have a distance of MinPing, but for two, until HEADERS or DATA are sent again.
func TestServer_MinPing(t *testing.T) {
	t.Parallel()
	const minPing = 10 * time.Second
	ping := func(p *peer, after ...time.Duration) {
		for _, d := range after {
			p.now += d
			p.send(raw(http2.FramePing, 0, 0, []byte("abcdefgh")...))
		}
	}
	soon, late := time.Second, minPing
	answered := func(do func(s *Stream)) func(p *peer) {
		return func(p *peer) {
			p.send(request(0, 1, "/"))
			s := p.events.streams[1]
			s.WriteHeaders([]*field{fieldOK}, false)
			for range 20 {
				ping(p, soon, soon, soon)
				do(s)
			}
		}
	}
	for name, x := range map[string]struct {
		limit time.Duration
		do    func(p *peer)
		fails bool
	}{
		"three, and the first is free":     {minPing, func(p *peer) { ping(p, soon, soon, soon) }, false},
		"four":                             {minPing, func(p *peer) { ping(p, soon, soon, soon, soon) }, true},
		"a nanosecond too soon":            {minPing, func(p *peer) { ping(p, late-1, late-1, late-1, late-1) }, true},
		"four at once":                     {minPing, func(p *peer) { ping(p, 0, 0, 0, 0) }, true},
		"honest ones between do not count": {minPing, func(p *peer) { ping(p, 0, soon, late, soon, late, late, soon) }, true},
		"a long silence does not count":    {minPing, func(p *peer) { ping(p, 0, soon, soon, time.Hour, soon) }, true},
		"at the interval": {minPing, func(p *peer) {
			for range 1000 {
				ping(p, late)
			}
		}, false},
		"no limit": {0, func(p *peer) { ping(p, make([]time.Duration, 900)...) }, false},

		"DATA forgives":            {minPing, answered(func(s *Stream) { s.WriteData([]byte("x"), false) }), false},
		"HEADERS forgive":          {minPing, answered(func(s *Stream) { s.WriteHeaders([]*field{fieldOK}, false) }), false},
		"DATA of nothing does not": {minPing, answered(func(s *Stream) { s.WriteData(nil, false) }), true},
		"an end forgives": {minPing, func(p *peer) {
			p.send(request(0, 1, "/"))
			ping(p, soon, soon, soon)
			p.events.streams[1].WriteHeaders([]*field{fieldOK}, true)
			ping(p, soon, soon, soon)
		}, false},
		"DATA that waits does not": {minPing, func(p *peer) {
			p.send(request(0, 1, "/"), settings(http2.Setting{ID: http2.SettingInitialWindowSize}))
			s := p.events.streams[1]
			s.WriteHeaders([]*field{fieldOK}, false)
			ping(p, soon, soon, soon)
			s.WriteData([]byte("x"), true)
			ping(p, soon)
		}, true},
		"until it is sent": {minPing, func(p *peer) {
			p.send(request(0, 1, "/"), settings(http2.Setting{ID: http2.SettingInitialWindowSize}))
			s := p.events.streams[1]
			s.WriteHeaders([]*field{fieldOK}, false)
			s.WriteData([]byte("x"), true)
			ping(p, soon, soon, soon)
			p.send(update(1, 1))
			ping(p, soon, soon, soon)
		}, false},
		"what comes, and other frames, do not": {minPing, func(p *peer) {
			p.send(request(0, 1, "/consume"))
			ping(p, soon, soon, soon)
			p.send(times(16, data(0, 1, string(make([]byte, 16384)))), settings())
			p.conn.Ping([8]byte{})
			p.send(raw(http2.FramePing, flagAck, 0, make([]byte, 8)...))
			require.Contains(t, p.output(), "WINDOW_UPDATE 1 131072")
			ping(p, soon)
		}, true},
		"answers to PINGs are none": {minPing, func(p *peer) {
			for range 10 {
				p.conn.Ping([8]byte{})
				p.send(raw(http2.FramePing, flagAck, 0, make([]byte, 8)...))
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newServerPeer(t, Config{MinPing: x.limit})
			x.do(p)
			if !x.fails {
				require.Nil(t, p.conn.Failure())
				return
			}
			require.NotNil(t, p.conn.Failure())
			require.Equal(t, [2]any{http2.ErrCodeEnhanceYourCalm, TooManyPings}, [2]any{p.conn.Failure().Code, p.conn.Failure().Offence})
		})
	}
}

// The debug data is what clients of gRPC look for, and the last PING has no answer.
func TestServer_TooManyPings(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{MinPing: time.Second})
	p.send(times(4, raw(http2.FramePing, 0, 0, []byte("abcdefgh")...)))
	ack := `PING "abcdefgh" ACK`
	require.Equal(t, frames(ack, ack, ack, "GOAWAY 0 ENHANCE_YOUR_CALM too_many_pings"), p.output())
}

// A server may send PINGs as it likes: it has its own limits.
func TestClient_MinPing(t *testing.T) {
	t.Parallel()
	p := newClientPeer(t, Config{MinPing: time.Hour})
	p.send(times(900, raw(http2.FramePing, 0, 0, make([]byte, 8)...)))
	require.Nil(t, p.conn.Failure())
}

// eager is a client of grpc-go with a keepalive of 10 s, the least that it takes, and servers that answer every call with headers.
type eager struct {
	conn    *grpc.ClientConn
	mu      sync.Mutex // guards all below, and the sockets' Conns
	servers []*socket
	stream  *Stream // the last that was opened
}

// dial connects the client to a server with that MinPing.
func (e *eager) dial(minPing time.Duration) net.Conn {
	ours, theirs := net.Pipe()
	e.mu.Lock()
	defer e.mu.Unlock()
	k := &hooks{opened: func() *Stream { e.stream = &Stream{}; return e.stream },
		head: func(s *Stream, _ *Head) {
			s.WriteHeaders(fieldList(":status=200", "content-type=application/grpc"), false)
		}}
	e.servers = append(e.servers, newSocket(&e.mu, ours, k, false, Config{MinPing: minPing}))
	return theirs
}

// run uses the client in a bubble, and returns why its connections have ended by then, nil for those that have not.
func (e *eager) run(t *testing.T, minPing time.Duration, use func(t *testing.T)) (ended []*ConnError) {
	synctest.Test(t, func(t *testing.T) {
		var err error
		e.conn, err = grpc.NewClient("passthrough:///server", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithIdleTimeout(0),
			grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return e.dial(minPing), nil }),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}))
		require.NoError(t, err)
		use(t)
		synctest.Wait()
		for _, s := range e.servers {
			e.mu.Lock()
			ended = append(ended, s.conn.Failure())
			e.mu.Unlock()
		}
		require.NoError(t, e.conn.Close())
		for _, s := range e.servers {
			s.close()
		}
	})
	return ended
}

// A client of grpc-go whose keepalive is too eager is told, and then takes twice its interval. An honest one stays.
func TestInterop_Keepalive(t *testing.T) {
	t.Parallel()
	idle := func(e *eager) func(*testing.T) {
		return func(*testing.T) {
			for range 30 {
				e.conn.Connect() // again, if it has lost its connection
				time.Sleep(time.Minute)
			}
		}
	}
	t.Run("honest", func(t *testing.T) {
		t.Parallel()
		e := &eager{}
		require.Equal(t, []*ConnError{nil}, e.run(t, 10*time.Second, idle(e)))
	})
	t.Run("too eager", func(t *testing.T) {
		t.Parallel()
		e := &eager{}
		ended := e.run(t, 15*time.Second, idle(e))
		require.Len(t, ended, 2, "it connects again")
		require.NotNil(t, ended[0])
		require.Equal(t, TooManyPings, ended[0].Offence)
		require.Nil(t, ended[1], "it pings every 20 s now")
	})
	t.Run("eager, and sent a message every 12 s", func(t *testing.T) {
		t.Parallel()
		e := &eager{}
		require.Equal(t, []*ConnError{nil}, e.run(t, 15*time.Second, func(t *testing.T) {
			stream, err := e.conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/s/m", grpc.ForceCodec(bytesCodec{}))
			require.NoError(t, err)
			_, err = stream.Header()
			require.NoError(t, err)
			var m []byte
			for range 100 {
				time.Sleep(12 * time.Second)
				e.mu.Lock()
				e.stream.WriteData(make([]byte, 5), false)
				e.mu.Unlock()
				require.NoError(t, stream.RecvMsg(&m))
			}
		}))
	})
}

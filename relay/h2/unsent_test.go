package h2

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// Unsent is what Output has.
func TestConn_Unsent(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{})
	require.Zero(t, p.conn.Unsent())
	p.send(times(10, raw(http2.FramePing, 0, 0, make([]byte, 8)...)))
	require.Equal(t, 170, p.conn.Unsent())
	p.conn.Wrote(50)
	require.Equal(t, 120, p.conn.Unsent())
	require.Len(t, p.conn.Output(), 120)
	p.conn.Wrote(120)
	require.Zero(t, p.conn.Unsent())
}

// A server that is honest, busy and slow to read costs no connection whose owner asks before it opens a stream: not with the longest
// headers, nor with DATA, nor with answers whose DATA leaves in small pieces, nor when all streams are reset at once.
func TestClient_ServerIsSlowToRead(t *testing.T) {
	t.Parallel()
	const maxStreams = 300
	p := newClientPeer(t, Config{StreamWindow: 65535, ConnWindow: maxStreams * 65535})
	p.send(settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: maxStreams}), update(0, 1<<30))
	p.output()
	p.events.deaf = true
	long := append(fieldList(":method=POST", ":scheme=http", ":path=/", ":authority=a"), fieldList("x="+strings.Repeat("y", 60_000))...)
	short, refused, most := long[:4], 0, 0
	slow := func(read int) { // the server reads a little, and time goes on
		p.now += 10 * time.Millisecond
		read = min(read, p.conn.Unsent())
		p.wire.Write(p.conn.Output()[:read])
		p.conn.Wrote(read)
		p.send(raw(http2.FramePing, 0, 0, make([]byte, 8)...))
		p.conn.Tick(int64(p.now))
		most = max(most, p.conn.Unsent())
		require.Nil(t, p.conn.Failure())
	}
	open := func(fields []*field) (s *Stream) {
		if p.conn.Streams() == maxStreams || p.conn.IsBusy() {
			refused++
			return nil
		}
		s = &Stream{Owner: new(plan)}
		p.conn.Open(s, fields, false)
		return s
	}

	for i := range 1500 { // long and short headers, DATA, and calls that are canceled
		fields := short
		if i%2 == 0 {
			fields = long
		}
		if s := open(fields); s != nil {
			s.WriteData(make([]byte, 20_000), false)
			if i%3 == 0 {
				s.Reset(http2.ErrCodeCancel)
			}
		}
		slow(3000)
	}
	require.NotZero(t, refused)

	for p.conn.Streams() < maxStreams { // as many calls as there may be
		open(short)
		slow(1 << 20)
	}
	for open(long); !p.conn.IsBusy(); open(long) {
		for _, s := range p.conn.streams.all()[:1] {
			s.Reset(http2.ErrCodeCancel)
		}
	}
	open(long) // refused
	for _, s := range p.conn.streams.all() {
		p.send(answer(0, s.ID()), times(3, data(0, s.ID(), strings.Repeat("x", 16384))), data(0, s.ID(), strings.Repeat("x", 16383)))
		for range 65535 / 50 {
			s.Consumed(50)
		}
	}
	slow(0)
	for _, s := range p.conn.streams.all() {
		s.WriteData(nil, true)
		s.Reset(http2.ErrCodeCancel)
	}
	slow(0)
	t.Logf("%d streams were not opened; at most %d bytes waited", refused, most)
	require.NotEmpty(t, p.output(), "all frames are whole")
}

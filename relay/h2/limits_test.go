package h2

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// What a hostile peer may do until its connection ends: each row repeats frames, of stream 1, 3 and so on.
func TestLimits_HostilePeer(t *testing.T) {
	t.Parallel()
	calm := func(offence Offence) *ConnError {
		return &ConnError{Code: http2.ErrCodeEnhanceYourCalm, Offence: offence}
	}
	for name, x := range map[string]struct {
		before  []byte
		repeat  func(id uint32) []byte
		offence *ConnError
		atLeast int // times that are allowed
		atMost  int
		client  bool
	}{
		// streams opened for nothing
		"rapid reset":         {nil, func(id uint32) []byte { return cat(request(0, id, "/"), rst(id, http2.ErrCodeCancel)) }, calm(TooManyResets), 1000, 1200, false},
		"content-length":      {nil, func(id uint32) []byte { return request(flagEndStream, id, "/", "content-length=1") }, calm(TooManyProvokedResets), 1000, 1200, false},
		"malformed requests":  {nil, func(id uint32) []byte { return heads(flagEndStream, id, ":method=POST") }, calm(TooManyProvokedResets), 1000, 1200, false},
		"increment of 0":      {nil, func(id uint32) []byte { return cat(request(flagEndStream, id, "/"), update(id, 0)) }, calm(TooManyProvokedResets), 1000, 1200, false},
		"windows overflow":    {nil, func(id uint32) []byte { return cat(request(flagEndStream, id, "/"), update(id, 1<<31-1)) }, calm(TooManyProvokedResets), 1000, 1200, false},
		"DATA after the end":  {nil, func(id uint32) []byte { return cat(request(flagEndStream, id, "/"), data(0, id, "x")) }, calm(TooManyProvokedResets), 1000, 1200, false},
		"HEADERS after end":   {nil, func(id uint32) []byte { return cat(request(flagEndStream, id, "/"), heads(flagEndStream, id)) }, calm(TooManyProvokedResets), 1000, 1200, false},
		"trailers, no end":    {nil, func(id uint32) []byte { return cat(request(0, id, "/"), heads(0, id)) }, calm(TooManyProvokedResets), 1000, 1200, false},
		"PRIORITY of 4 bytes": {nil, func(id uint32) []byte { return cat(request(0, id, "/"), raw(http2.FramePriority, 0, id, be(0)...)) }, calm(TooManyProvokedResets), 1000, 1200, false},
		"too many streams":    {nil, func(id uint32) []byte { return request(0, id, "/") }, calm(TooManyStreams), 1999, 2200, false},

		// control frames
		"PING":                    {nil, func(uint32) []byte { return raw(http2.FramePing, 0, 0, make([]byte, 8)...) }, calm(PingFlood), 990, 1000, false},
		"PING ACK, unasked":       {nil, func(uint32) []byte { return raw(http2.FramePing, flagAck, 0, make([]byte, 8)...) }, calm(PingFlood), 990, 1000, false},
		"PING ACK of a server":    {nil, func(uint32) []byte { return raw(http2.FramePing, flagAck, 0, make([]byte, 8)...) }, calm(PingFlood), 990, 1002, true},
		"20,000 PING ACKs":        {nil, func(uint32) []byte { return times(20_000, raw(http2.FramePing, flagAck, 0, make([]byte, 8)...)) }, calm(PingFlood), 1, 1, false},
		"SETTINGS":                {nil, func(uint32) []byte { return settings() }, calm(SettingsFlood), 990, 1000, false},
		"settings of a frame":     {nil, func(uint32) []byte { return settings(make([]http2.Setting, 9)...) }, calm(SettingsFlood), 95, 100, false},
		"SETTINGS ACK":            {nil, func(uint32) []byte { return settingsAck() }, calm(SettingsFlood), 990, 1000, false},
		"PRIORITY":                {nil, func(uint32) []byte { return raw(http2.FramePriority, 0, 1, 0, 0, 0, 0, 1) }, calm(PriorityFlood), 990, 1000, false},
		"unknown frames":          {nil, func(uint32) []byte { return raw(99, 0, 1) }, calm(UnknownFrameFlood), 990, 1000, false},
		"WINDOW_UPDATE":           {nil, func(uint32) []byte { return update(0, 1) }, calm(WindowUpdateFlood), 990, 1000, false},
		"WINDOW_UPDATE, stream":   {request(0, 1, "/"), func(uint32) []byte { return update(1, 1) }, calm(WindowUpdateFlood), 990, 1002, false},
		"WINDOW_UPDATE, closed":   {request(0, 1, "/reset"), func(uint32) []byte { return update(1, 1) }, calm(WindowUpdateFlood), 990, 1002, false},
		"RST_STREAM, closed":      {request(0, 1, "/reset"), func(uint32) []byte { return rst(1, 0) }, calm(TooManyControls), 990, 1002, false},
		"GOAWAY":                  {nil, func(uint32) []byte { return goAway(0, 0) }, calm(TooManyControls), 990, 1000, false},
		"empty DATA":              {request(0, 1, "/"), func(uint32) []byte { return data(0, 1, "") }, calm(EmptyDataFlood), 990, 1002, false},
		"DATA of padding":         {request(0, 1, "/consume"), func(uint32) []byte { return raw(http2.FrameData, flagPadded, 1, 1, 0) }, calm(EmptyDataFlood), 990, 1002, false},
		"empty DATA, reset":       {request(0, 1, "/reset"), func(uint32) []byte { return data(0, 1, "") }, calm(EmptyDataFlood), 990, 1002, false},
		"DATA after RST_STREAM":   {cat(request(0, 1, "/"), rst(1, 0)), func(uint32) []byte { return data(0, 1, "x") }, calm(TooManyControls), 990, 1002, false},
		"trailers, reset":         {request(0, 1, "/reset"), func(uint32) []byte { return heads(flagEndStream, 1) }, calm(TooManyControls), 990, 1002, false},
		"informational answers":   {nil, func(uint32) []byte { return heads(0, 1, ":status=103") }, calm(TooManyControls), 990, 1002, true},
		"PING of a server":        {nil, func(uint32) []byte { return raw(http2.FramePing, 0, 0, make([]byte, 8)...) }, calm(PingFlood), 990, 1002, true},
		"GOAWAY of a server":      {nil, func(uint32) []byte { return goAway(1, 0) }, calm(TooManyControls), 990, 1002, true},
		"CONTINUATION of nothing": {raw(http2.FrameHeaders, 0, 1, encode(":method=POST")...), func(uint32) []byte { return raw(http2.FrameContinuation, 0, 1) }, calm(TooManyContinuations), 250, 260, false},
		"CONTINUATION of 16 KiB":  {raw(http2.FrameHeaders, 0, 1, encode(":method=POST")...), func(uint32) []byte { return raw(http2.FrameContinuation, 0, 1, make([]byte, 16384)...) }, calm(HeadersTooLong), 15, 16, false},
		"CONTINUATION, a server":  {raw(http2.FrameHeaders, 0, 1, encode(":status=200")...), func(uint32) []byte { return raw(http2.FrameContinuation, 0, 1, make([]byte, 16384)...) }, calm(HeadersTooLong), 15, 16, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newServerPeer(t, Config{})
			if x.client {
				p = newClientPeer(t, Config{})
				p.open(true)
			}
			p.send(x.before)
			n := 0
			for ; p.conn.Failure() == nil && n <= x.atMost; n++ {
				p.send(x.repeat(uint32(2*n + 1)))
				p.output()
			}
			require.NotNil(t, p.conn.Failure(), "%d times", n)
			require.Equal(t, [2]any{x.offence.Code, x.offence.Offence}, [2]any{p.conn.Failure().Code, p.conn.Failure().Offence})
			require.GreaterOrEqual(t, n, x.atLeast)
			require.Zero(t, p.conn.Streams())
		})
	}
}

// Time gives back what was charged.
func TestLimits_Refill(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{})
	for i := range 100 {
		p.now += time.Second
		n := 200
		if i == 0 {
			n = 990
		}
		p.send(times(n, raw(http2.FramePing, 0, 0, make([]byte, 8)...)))
		require.Nil(t, p.conn.Failure(), "second %d", i)
		p.output()
	}
	id := uint32(1)
	for i := range 20 {
		n := 490
		if i == 0 {
			n = 1090
		}
		for range n {
			p.send(request(0, id, "/"), rst(id, 0))
			id += 2
		}
		require.Nil(t, p.conn.Failure(), "second %d", i)
		p.output()
		p.now += time.Second
	}
}

// A peer that does not read: neither answers to its own frames nor what others send it grow without bound.
func TestLimits_PeerThatDoesNotRead(t *testing.T) {
	t.Parallel()
	bound := Config{}.WithDefaults().SendLimit + frameHeaderLen + maxFrameLen + 1<<20
	long := fieldList("x=" + strings.Repeat("y", 60_000))
	for name, x := range map[string]struct {
		client bool
		do     func(p *peer, i int)
	}{
		"PING": {false, func(p *peer, _ int) {
			p.now += time.Second / 10
			p.send(times(20, raw(http2.FramePing, 0, 0, make([]byte, 8)...)))
		}},
		"answers": {false, func(p *peer, i int) {
			id := uint32(2*i + 1)
			p.send(request(flagEndStream, id, "/"))
			if s := p.events.streams[id]; s != nil {
				s.WriteHeaders(long, true)
			}
		}},
		"answers with bodies": {false, func(p *peer, i int) {
			id := uint32(2*i + 1)
			p.send(request(flagEndStream, id, "/"), update(id, 1<<16), update(0, 1<<16))
			if s := p.events.streams[id]; s != nil {
				s.WriteHeaders(long, false)
				s.WriteData(make([]byte, 1<<16), true)
				p.send(rst(id, http2.ErrCodeCancel)) // so that it may go on
				p.now += time.Second
			}
		}},
		"requests to a server": {true, func(p *peer, _ int) {
			p.conn.Open(&Stream{Owner: new(plan)}, long, true)
			if p.conn.blockLost {
				p.conn.Tick(1)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newServerPeer(t, Config{})
			if x.client {
				p = newClientPeer(t, Config{})
			}
			for i := range 100_000 {
				x.do(p, i)
				p.events.take()
				require.LessOrEqual(t, len(p.conn.Output()), bound+70_000)
				if p.conn.Failure() != nil {
					break
				}
			}
			require.NotNil(t, p.conn.Failure())
			require.Equal(t, NotReading, p.conn.Failure().Offence)
			require.Zero(t, p.conn.Streams())
			p.conn.Close(p.conn.Failure())
			require.Zero(t, p.memory.budget.Held())
			out := p.output()
			require.Contains(t, out[len(out)-1], "GOAWAY")
		})
	}
}

// A header block has a time to end.
func TestLimits_HeaderBlockDeadline(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{})
	p.now = time.Minute
	p.send(request(0, 1, "/"), raw(http2.FrameHeaders, 0, 3, encode(":method=POST")...))
	p.conn.Tick(int64(70 * time.Second))
	p.now = 70 * time.Second
	p.send(raw(http2.FrameContinuation, 0, 3, encode(":path=/")...))
	require.Nil(t, p.conn.Failure())
	p.conn.Tick(int64(70*time.Second) + 1)
	require.Equal(t, fails("1", "ENHANCE_YOUR_CALM", "header_timeout"), p.output())
	require.Equal(t, []string{"head 1", "reset 1 ENHANCE_YOUR_CALM conn"}, p.events.take())
}

// So has a HEADERS frame that comes byte by byte. DATA may take its time.
func TestLimits_HeadersFrameDeadline(t *testing.T) {
	t.Parallel()
	slow := func(f []byte) *peer {
		p := newServerPeer(t, Config{})
		p.send(request(0, 1, "/"))
		for i := range 20 {
			p.now += time.Second
			p.send(f[i : i+1])
			p.conn.Tick(int64(p.now))
		}
		return p
	}
	require.Nil(t, slow(data(0, 1, "a message that takes 20 seconds")).conn.Failure())
	why := slow(request(0, 3, "/a/path/that/takes/20/seconds")).conn.Failure()
	require.NotNil(t, why)
	require.Equal(t, HeadersTooSlow, why.Offence)

	p := newServerPeer(t, Config{}) // each frame has its own time
	for id := uint32(1); id < 100; id += 2 {
		f := request(0, id, "/answer")
		p.now += 4 * time.Second
		p.send(f[:10])
		p.now += 4 * time.Second
		p.send(f[10:], raw(http2.FrameHeaders, flagEndHeaders, id+2)[:5])
		p.conn.Tick(int64(p.now))
		p.conn.partial = nil
	}
	require.Nil(t, p.conn.Failure())
}

// A block of references to one large entry of the table expands far over the limit, and costs its stream, not memory. The test
// counts memory, so it is not parallel.
func TestLimits_HPACKBomb(t *testing.T) {
	p := newServerPeer(t, Config{})
	value := times(4000, []byte("v"))
	entry := cat([]byte{0x40, 1, 'x', 0x7f}, []byte{0xa1, 0x1e}, value) // 127 + 33 + 30*128 = 4000
	p.send(raw(http2.FrameHeaders, flagEndHeaders, 1, cat(encode(":method=POST", ":scheme=http", ":path=/"), entry)...))
	require.Equal(t, []string{"head 1"}, p.events.take())
	bomb := cat(encode(":method=POST", ":scheme=http", ":path=/"), times(16000, []byte{0xbe}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for id := uint32(3); id < 203; id += 2 {
		p.send(raw(http2.FrameHeaders, flagEndHeaders, id, bomb...))
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20), "100 blocks of 64 MB each")
	log := p.events.take()
	require.Len(t, log, 100)
	require.Equal(t, "head 3 too large", log[0])
	require.Nil(t, p.conn.Failure())
}

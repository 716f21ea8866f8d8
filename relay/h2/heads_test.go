package h2

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// headPeer is a client of a server's end, whose Heads go to seen.
type headPeer struct {
	t    *testing.T
	conn *Conn
	seen func(h *Head)
	id   uint32
}

func newHeadPeer(t *testing.T, cfg Config) *headPeer {
	cfg = cfg.WithDefaults()
	p := &headPeer{t: t, seen: func(*Head) {}}
	var s Stream
	p.conn = NewServer(&cfg, &hooks{opened: func() *Stream { return &s }, head: func(s *Stream, h *Head) {
		p.seen(h)
		s.WriteHeaders([]*hpack.Field{fieldOK}, true)
		s.Reset(http2.ErrCodeNo)
	}}, NewMemory(NewBudget(0)), hpack.NewInterner(64, 512), 0)
	p.conn.Receive(cat([]byte(http2.ClientPreface), settings(), settingsAck()), 0)
	return p
}

// request sends a header block on a new stream.
func (p *headPeer) request(flags byte, block []byte) {
	p.t.Helper()
	p.id += 2
	if p.id == 2 {
		p.id = 1
	}
	p.conn.Receive(raw(http2.FrameHeaders, flagEndHeaders|flags, p.id, block...), int64(p.id))
	require.Nil(p.t, p.conn.Failure())
	p.conn.Wrote(len(p.conn.Output()))
}

// A block that comes again and again stays from its second time on, and what the owner leaves with it comes back.
func TestHeads_BlocksThatComeAgainStay(t *testing.T) {
	t.Parallel()
	p := newHeadPeer(t, Config{})
	blocks := [][]byte{ // they take turns
		encode(":method=POST", ":scheme=http", ":path=/a/A"),
		encode(":method=POST", ":scheme=http", ":path=/b/B", "x=y"),
		encode(":method=POST", ":scheme=http", ":path=/b/B", "x=z"),
	}
	for round := range 5 {
		for i, b := range blocks {
			for _, flags := range []byte{0, flagEndStream} {
				memo := fmt.Sprint(i, flags)
				p.seen = func(h *Head) {
					require.Equal(t, round > 0, h.Stays)
					require.Equal(t, flags != 0, h.End)
					require.Equal(t, []string{"/a/A", "/b/B", "/b/B"}[i], h.Path.Value)
					require.Len(t, h.Fields, []int{3, 4, 4}[i])
					if round > 1 {
						require.Equal(t, memo, h.Memo)
					}
					require.Equal(t, round > 1, h.Memo != nil)
					if h.Stays {
						h.Memo = memo
					}
				}
				p.request(flags, b)
			}
		}
	}
	p.conn.Shrink()
	p.seen = func(h *Head) { require.False(t, h.Stays); require.Equal(t, "/a/A", h.Path.Value) }
	p.request(0, blocks[0])
}

// The same bytes mean something else when the HPACK table has changed between.
func TestHeads_TheTableChangesBetween(t *testing.T) {
	t.Parallel()
	p := newHeadPeer(t, Config{})
	begin := encode(":method=POST", ":scheme=http", ":path=/a/A")
	newest := cat(begin, []byte{0x80 | 62})
	for i := range 40 {
		value := fmt.Sprint(i)
		put := cat(begin, []byte{0x40, 1, 'x', byte(len(value))}, []byte(value))
		p.seen = func(h *Head) { require.False(t, h.Stays); require.Equal(t, value, h.Fields[3].Value) }
		p.request(0, put)
		for range 4 {
			p.seen = func(h *Head) { require.Equal(t, value, h.Fields[3].Value, "the newest entry") }
			p.request(0, newest)
		}
	}
	// A size of 0 empties the table: the bytes are an error now.
	p.seen = func(*Head) {}
	p.request(0, cat([]byte{0x20}, begin))
	p.id += 2
	p.conn.Receive(raw(http2.FrameHeaders, flagEndHeaders, p.id, newest...), 0)
	require.Equal(t, http2.ErrCodeCompression, p.conn.Failure().Code)
}

// A size update that leaves the table as it was does not change what the bytes mean.
func TestHeads_SizeUpdateThatChangesNothing(t *testing.T) {
	t.Parallel()
	p := newHeadPeer(t, Config{})
	block := cat([]byte{0x20}, encode(":method=POST", ":scheme=http", ":path=/a/A"))
	for round := range 5 { // the first empties the table
		p.seen = func(h *Head) { require.Equal(t, round > 1, h.Stays); require.Equal(t, "/a/A", h.Path.Value) }
		p.request(0, block)
	}
	p.seen = func(h *Head) { require.False(t, h.Stays) }
	p.request(0, cat([]byte{0x3f, 0x45}, encode(":method=POST", ":scheme=http", ":path=/a/A"))) // 100 bytes
	p.seen = func(h *Head) { require.False(t, h.Stays, "the table was emptied") }
	p.request(0, block)
}

// A table that the peer must make smaller, and has not, is an error whatever came before.
func TestHeads_ASmallerTableIsDemanded(t *testing.T) {
	t.Parallel()
	cfg := Config{HeaderTable: 100}.WithDefaults()
	var s Stream
	conn := NewServer(&cfg, &hooks{opened: func() *Stream { return &s }, head: func(s *Stream, _ *Head) { s.Reset(http2.ErrCodeNo) }},
		NewMemory(NewBudget(0)), hpack.NewInterner(64, 512), 0)
	block := encode(":method=POST", ":scheme=http", ":path=/a/A")
	conn.Receive(cat([]byte(http2.ClientPreface), settings()), 0)
	for id := uint32(1); id < 9; id += 2 {
		conn.Receive(raw(http2.FrameHeaders, flagEndHeaders, id, block...), 0)
	}
	require.Nil(t, conn.Failure())
	conn.Receive(cat(settingsAck(), raw(http2.FrameHeaders, flagEndHeaders, 9, block...)), 0)
	require.Equal(t, http2.ErrCodeCompression, conn.Failure().Code)
}

// What is kept is bounded, and what is malformed or too long is judged anew each time.
func TestHeads_WhatIsNotKept(t *testing.T) {
	t.Parallel()
	p := newHeadPeer(t, Config{MaxHeaderList: 400})
	for range 4 {
		p.seen = func(h *Head) { require.Equal(t, "no :scheme or no :path", h.Problem); require.False(t, h.Stays) }
		p.request(0, encode(":method=POST", ":scheme=http"))
		p.seen = func(h *Head) { require.Nil(t, h) }
		p.request(0, encode(":method=POST", ":scheme=http", ":path=/a/A", "x="+strings.Repeat("y", 300), "z=z"))
		p.seen = func(h *Head) { require.Equal(t, "content-length without DATA", h.Problem) }
		p.request(flagEndStream, encode(":method=POST", ":scheme=http", ":path=/a/A", "content-length=5"))
		p.seen = func(h *Head) { require.Empty(t, h.Problem); require.EqualValues(t, 5, h.ContentLength) }
		p.request(0, encode(":method=POST", ":scheme=http", ":path=/a/A", "content-length=5"))
	}
	for i := range 1000 {
		p.seen = func(h *Head) { require.False(t, h.Stays) }
		p.request(0, encode(":method=POST", ":scheme=http", ":path=/a/A", fmt.Sprint("x-request-id=", i)))
	}
}

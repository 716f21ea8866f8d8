package h2

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/http2"
)

// tape makes choices from bytes, and is a chooser of a world.
type tape struct{ b []byte }

func (p *tape) upTo(n int) int {
	if len(p.b) == 0 {
		return 0
	}
	v := int(p.b[0])
	p.b = p.b[1:]
	return v % n
}

func (p *tape) ended() bool { return len(p.b) == 0 }

// bytes takes n bytes, or those that are left.
func (p *tape) bytes(n int) []byte {
	n = min(n, len(p.b))
	b := p.b[:n]
	p.b = p.b[n:]
	return b
}

// FuzzServer gives a server any bytes, in pieces.
func FuzzServer(f *testing.F) {
	f.Add([]byte(http2.ClientPreface), []byte{1, 2}, uint16(3))
	f.Add(cat(settings(), settingsAck(), request(0, 1, "/"), data(flagEndStream, 1, "hello")), []byte{0, 9, 3, 7}, uint16(7))
	f.Add(cat(settings(), raw(http2.FrameHeaders, 0, 1, encode(":method=POST")...), raw(http2.FrameContinuation, flagEndHeaders, 1, encode(":scheme=http", ":path=/")...)), []byte{}, uint16(1000))
	f.Fuzz(func(t *testing.T, in, acts []byte, piece uint16) { fuzzBytes(t, false, in, acts, int(piece)) })
}

// FuzzClient gives a client with three streams any bytes, in pieces.
func FuzzClient(f *testing.F) {
	f.Add(cat(settings(), settingsAck(), answer(0, 1), data(flagEndStream, 1, "hello"), answer(flagEndStream, 3)), []byte{0, 9, 3, 7}, uint16(7))
	f.Add(cat(settings(), goAway(1, 0), heads(0, 1, ":status=103"), answer(0, 1), heads(flagEndStream, 1, "grpc-status=0"), rst(3, 8)), []byte{7}, uint16(70))
	f.Fuzz(func(t *testing.T, in, acts []byte, piece uint16) { fuzzBytes(t, true, in, acts, int(piece)) })
}

func fuzzBytes(t *testing.T, client bool, in, acts []byte, piece int) {
	s := newSubject(t, client, acts)
	if !client && piece%2 == 0 {
		in = append([]byte(http2.ClientPreface), in...)
	}
	for i := range 3 {
		s.open(i == 0)
	}
	for len(in) > 0 {
		n := min(len(in), piece+1)
		s.receive(in[:n])
		in = in[n:]
		s.drain(s.acts.upTo(256) * 100)
		s.now += 1000
	}
	s.conn.Tick(s.now)
	s.look()
	s.finish()
}

// FuzzFrames makes a server or a client go through frames that are mostly in order.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 1, 1, 0, 2, 1, 5, 3, 1, 9}, []byte{1, 3, 200, 6})
	f.Add([]byte{1, 1, 1, 0, 2, 1, 5, 3, 1, 9, 17, 0, 18, 0}, []byte{1, 3, 200, 6})
	f.Fuzz(func(t *testing.T, schedule, acts []byte) {
		p := &tape{schedule}
		client := p.upTo(2) == 1
		s := newSubject(t, client, acts)
		if !client {
			s.receive([]byte(http2.ClientPreface))
		}
		s.receive(cat(settings(), settingsAck()))
		last := uint32(1)
		for !p.ended() {
			s.step(p, &last)
			s.look()
		}
		s.finish()
	})
}

// step does what the tape says next.
func (s *subject) step(p *tape, last *uint32) {
	id := func() uint32 { return uint32(max(1, int(*last)-2*p.upTo(10))) }
	flags := func() byte { return byte(p.upTo(2)) }
	op := p.upTo(24)
	switch {
	case op <= 2 && s.conn.server:
		s.receive(request(flags(), *last, "/", [...]string{"x=y", "content-length=5", "content-length=300", "X=y"}[p.upTo(4)]))
		*last += 2
		return
	case op <= 2:
		s.open(p.upTo(2) == 0)
		*last = max(1, s.conn.lastID)
		return
	}
	switch op {
	case 3, 4:
		s.receive(answer(flags(), id(), [...]string{"x=y", "content-length=5", "content-length=300", "X=y"}[p.upTo(4)]))
	case 5, 6, 7:
		s.receive(raw(http2.FrameData, flags(), id(), make([]byte, p.upTo(256)*64)...))
	case 8:
		s.receive(raw(http2.FrameData, flagPadded|flags(), id(), append([]byte{byte(p.upTo(256))}, make([]byte, p.upTo(256))...)...))
	case 9:
		s.receive(heads(flagEndStream, id(), "grpc-status=0"))
	case 10:
		s.receive(rst(id(), http2.ErrCode(p.upTo(14))))
	case 11, 12:
		s.receive(update(id(), uint32(p.upTo(256)*500)))
	case 13, 14:
		s.receive(update(0, uint32(p.upTo(256)*500)))
	case 15:
		s.receive(settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(p.upTo(256) * 500)}))
	case 16:
		s.receive(settings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(p.upTo(256) * 20)}))
	case 17:
		s.receive(goAway(id(), http2.ErrCode(p.upTo(14))))
	case 18:
		s.receive(raw(http2.FramePing, flags(), 0, make([]byte, 8)...))
	case 19:
		i := id()
		s.receive(cat(raw(http2.FrameHeaders, 0, i, encode(":status=200")...), raw(http2.FrameContinuation, flagEndHeaders, i, encode("x=y")...)))
	case 20:
		s.receive(heads(0, id(), ":status=103"))
	case 21:
		s.receive(p.bytes(p.upTo(32))) // anything
	case 22:
		s.drain(p.upTo(256) * 200)
	default:
		s.other(p)
	}
}

// other does what a Conn's owner may do at any time.
func (s *subject) other(p *tape) {
	switch p.upTo(8) {
	case 0:
		s.conn.GoAway()
	case 1:
		s.conn.AnnounceGoAway()
	case 2:
		s.conn.Ping([8]byte{})
	case 3:
		s.now += int64(binary.BigEndian.Uint16(append(p.bytes(2), 0, 0))) * 1e6
		s.conn.Tick(s.now)
	case 4:
		s.conn.Shrink()
		s.memory.Trim()
	default:
		if len(s.streams) > 0 {
			s.act(s.streams[max(0, len(s.streams)-1-p.upTo(10))])
		}
	}
}

// FuzzPair drives the model of a relay.
func FuzzPair(f *testing.F) {
	f.Add([]byte{0, 0, 1, 1, 2, 2, 2, 9, 0, 5, 14, 1, 5})
	f.Add([]byte{3, 0, 7, 1, 7, 2, 0, 5, 2, 0, 5, 9, 0, 5, 14, 1, 5, 19, 0, 0, 0, 19, 1, 0, 2})
	f.Fuzz(func(t *testing.T, choices []byte) {
		p := &tape{choices[:min(len(choices), 3000)]}
		x := worlds[p.upTo(len(worlds))]
		newWorld(t, x.cfg, x.budget, p).run()
	})
}

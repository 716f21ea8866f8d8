package h2

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/relay/h2/hpack"
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

// subject is a Conn under a fuzz test, and the owner of its streams. It acts as its tape says, and checks that each stream's
// events come in an order that the contract of Events allows.
type subject struct {
	t       testing.TB
	conn    *Conn
	ledger  *ledger
	exact   bool // the ledger follows the peer: it has sent nothing that is malformed
	memory  *Memory
	acts    *tape
	lives   map[*Stream]*life
	streams []*Stream // in the order in which they were opened
	scanned int       // bytes of Output that the ledger has seen
	now     int64
	depth   int
}

// life is what has been told of a stream.
type life struct{ headed, ended, over bool }

func newSubject(t testing.TB, client bool, acts []byte) *subject {
	cfg := Config{MaxConcurrentStreams: 20, StreamWindow: 65535, ConnWindow: 100_000, MaxHeaderList: 2000, SendLimit: 20_000}.WithDefaults()
	s := &subject{t: t, acts: &tape{acts}, lives: map[*Stream]*life{}, memory: NewMemory(&Budget{max: 100_000})}
	s.ledger = newLedger(client, &cfg)
	s.ledger.maxStream, s.ledger.maxConn = maxWindow, maxWindow
	s.exact, s.ledger.late = true, true
	fields := hpack.NewInterner(64, 100)
	if client {
		s.conn = NewClient(&cfg, s, s.memory, fields, 0)
	} else {
		s.conn = NewServer(&cfg, s, s.memory, fields, 0)
	}
	return s
}

// receive gives the Conn bytes in memory that is overwritten afterwards, and looks at what comes out.
func (s *subject) receive(b []byte) {
	failed := s.conn.Failure() != nil
	out := len(s.conn.Output())
	if s.exact && s.ledger.received(b) != nil {
		s.exact = false // the Conn has its own opinion, which the tables test
	}
	all := append(append([]byte(nil), s.conn.Partial()...), b...)
	s.conn.Receive(all, s.now)
	spoil(all)
	if failed && len(s.conn.Output()) != out {
		s.t.Fatal("output after the end")
	}
	s.look()
}

// look checks what has come out.
func (s *subject) look() {
	out := s.conn.Output()
	if s.exact {
		if err := s.ledger.sent(out[s.scanned:]); err != nil {
			s.t.Fatal(err)
		}
	}
	s.scanned = len(out)
	if cfg := s.conn.cfg; len(out) > cfg.SendLimit+2*frameHeaderLen+2*maxFrameLen+cfg.Limits.MaxUnsent+1<<17 {
		s.t.Fatalf("%d bytes of output", len(out))
	}
	if held := s.memory.budget.Held(); held > 1<<22 {
		s.t.Fatalf("%d bytes are held", held)
	}
}

// drain writes n bytes of the output.
func (s *subject) drain(n int) {
	n = min(n, len(s.conn.Output()))
	s.conn.Wrote(n)
	s.scanned = max(0, s.scanned-n)
	s.conn.Flushed()
	s.look()
}

// finish closes the connection, and checks that every stream has ended.
func (s *subject) finish() {
	s.conn.Close(&ConnError{})
	for st, l := range s.lives {
		if !l.over {
			s.t.Fatalf("stream %d has no end", st.ID())
		}
	}
	if n := s.conn.Streams(); n != 0 {
		s.t.Fatalf("%d streams are left", n)
	}
	if held := s.memory.budget.Held(); held != 0 {
		s.t.Fatalf("%d bytes are held", held)
	}
}

func (s *subject) life(st *Stream) *life {
	l := s.lives[st]
	if l == nil || l.over {
		s.t.Fatalf("an event of stream %d, which has ended", st.ID())
	}
	return l
}

func (s *subject) add() *Stream {
	st := &Stream{}
	s.lives[st] = &life{}
	s.streams = append(s.streams, st)
	return st
}

// open opens a stream of a client.
func (s *subject) open(end bool) {
	if c := s.conn; c.server || c.IsLeaving() || c.Streams() > 20 {
		return
	}
	s.conn.Open(s.add(), fieldList(":method=POST", ":scheme=http", ":path=/", ":authority=a"), end)
}

// act does something with a stream.
func (s *subject) act(st *Stream) {
	l := s.lives[st]
	switch s.acts.upTo(12) {
	case 0, 1, 2:
		if !st.Answered() {
			st.WriteHeaders([]*field{fieldOK}, s.acts.upTo(2) == 0)
		}
	case 3, 4:
		if st.Answered() {
			st.WriteData(make([]byte, s.acts.upTo(256)*100), false)
		}
	case 5:
		if st.Answered() {
			st.WriteData(make([]byte, s.acts.upTo(256)*100), true)
		}
	case 6:
		if st.Answered() {
			st.WriteTrailers([]*field{fieldOK})
		}
	case 7, 8:
		st.Consumed(int(st.conn.cfg.StreamWindow - uint32(st.recvWindow) - uint32(st.owed)))
	case 9:
		open := st.IsOpen()
		st.Reset(http2.ErrCodeCancel)
		l.over = l.over || open
	}
}

// Opened implements Events.
func (s *subject) Opened() *Stream { return s.add() }

// Head implements Events.
func (s *subject) Head(st *Stream, h *Head) {
	l := s.life(st)
	switch {
	case l.ended:
		s.t.Fatalf("stream %d: headers after the end", st.ID())
	case h != nil && h.Trailer != l.headed:
		s.t.Fatalf("stream %d: trailers %t, though headers %t", st.ID(), h.Trailer, l.headed)
	case h == nil || h.Status == 0 || h.Status >= 200:
		l.headed = true
	}
	l.ended = st.PeerEnded()
	s.act(st)
}

// Data implements Events.
func (s *subject) Data(st *Stream, _ []byte, end bool) {
	l := s.life(st)
	if !l.headed || l.ended {
		s.t.Fatalf("stream %d: DATA, headers %t, end %t", st.ID(), l.headed, l.ended)
	}
	l.ended = end
	s.act(st)
}

// Sent implements Events.
func (s *subject) Sent(st *Stream, n int) {
	s.life(st)
	if n <= 0 {
		s.t.Fatalf("stream %d: %d bytes were sent", st.ID(), n)
	}
	if s.depth++; s.depth < 5 { // writing more may send more
		s.act(st)
	}
	s.depth--
}

// Done implements Events.
func (s *subject) Done(st *Stream) {
	l := s.life(st)
	if !l.ended || st.IsOpen() {
		s.t.Fatalf("stream %d is done, but its end has not come", st.ID())
	}
	l.over = true
}

// Reset implements Events.
func (s *subject) Reset(st *Stream, _ *Reset) {
	s.life(st).over = true
	if st.IsOpen() {
		s.t.Fatalf("stream %d was reset and is open", st.ID())
	}
	if len(s.streams) > 0 { // an owner may do anything here
		s.act(s.streams[s.acts.upTo(len(s.streams))])
	}
}

// SettingsChanged implements Events.
func (s *subject) SettingsChanged() {}

// GoingAway implements Events.
func (s *subject) GoingAway(http2.ErrCode, string) {}

// Pong implements Events.
func (s *subject) Pong() {}

// Wake implements Events.
func (s *subject) Wake() {}

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

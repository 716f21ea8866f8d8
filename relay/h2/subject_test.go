package h2

import (
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// subject is a Conn under a fuzz test, and the owner of its streams. It acts as its tape says, and checks that each stream's
// events come in an order that the contract of Events allows.
type subject struct {
	t         testing.TB
	conn      *Conn
	ledger    *ledger
	exact     bool // the ledger follows the peer: it has sent nothing that is malformed
	memory    *Memory
	acts      *tape
	lives     map[*Stream]*life
	streams   []*Stream // in the order in which they were opened
	malformed []*life   // of requests of the last Receive
	scanned   int       // bytes of Output that the ledger has seen
	now       int64
	depth     int
}

// life is what has been told of a stream.
type life struct {
	headed, ended, over bool
	kept                Pending // DATA for which no credit was given yet
}

// end notes that a stream is the owner's again.
func (s *subject) end(l *life) {
	l.over = true
	l.kept.Clear(s.memory)
}

func newSubject(t testing.TB, client bool, acts []byte) *subject {
	cfg := Config{MaxConcurrentStreams: 20, StreamWindow: 65535, ConnWindow: 100_000, MaxHeaderList: 2000, SendLimit: 20_000,
		MinPing: time.Duration(len(acts)%2) * time.Millisecond}.WithDefaults()
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
	for _, l := range s.malformed {
		if !l.over {
			s.t.Fatal("a malformed request has no end")
		}
	}
	s.malformed = s.malformed[:0]
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
	if cfg := s.conn.cfg; len(out) > cfg.SendLimit+2*frameHeaderLen+2*maxFrameLen+cfg.Limits.UnreadBytes+1<<17 {
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
		st.Consumed(l.kept.Clear(s.memory))
	case 9:
		if st.IsOpen() {
			st.Reset(http2.ErrCodeCancel)
			s.end(l)
		}
	case 10:
		n := s.acts.upTo(4)
		if n < 3 {
			st.CutQueue(n * 10_000)
		} else {
			st.EndNow()
		}
		if left := st.Queued(); st.trailers != nil || n < 3 && (st.ending || left > n*10_000) {
			s.t.Fatalf("stream %d: %d bytes are queued, the end behind them: %t, trailers: %v", st.ID(), left, st.ending, st.trailers)
		}
	case 11:
		st.Consumed(l.kept.Read(s.memory, make([]byte, s.acts.upTo(256)*100)))
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
	if h != nil && h.Problem != "" {
		s.malformed = append(s.malformed, l)
		l.ended = true // nothing follows
	}
	s.act(st)
}

// Data implements Events.
func (s *subject) Data(st *Stream, p []byte, end bool) {
	l := s.life(st)
	if !l.headed || l.ended {
		s.t.Fatalf("stream %d: DATA, headers %t, end %t", st.ID(), l.headed, l.ended)
	}
	l.ended = end
	l.kept.Add(s.memory, p)
	s.act(st)
}

// Sent implements Events.
func (s *subject) Sent(st *Stream, p []byte) {
	s.life(st)
	if len(p) == 0 {
		s.t.Fatalf("stream %d: no bytes were sent", st.ID())
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
	s.end(l)
}

// Reset implements Events.
func (s *subject) Reset(st *Stream, _ *Reset) {
	s.end(s.life(st))
	if st.IsOpen() {
		s.t.Fatalf("stream %d was reset and is open", st.ID())
	}
	if len(s.streams) > 0 { // an owner may do anything here
		s.act(s.streams[s.acts.upTo(len(s.streams))])
	}
}

// Refused implements Events.
func (s *subject) Refused() {}

// SettingsChanged implements Events.
func (s *subject) SettingsChanged() {}

// GoingAway implements Events.
func (s *subject) GoingAway(http2.ErrCode, string) {}

// Pong implements Events.
func (s *subject) Pong() {}

// Wake implements Events.
func (s *subject) Wake() {}

package testbed

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// EventKind is the kind of an Event.
type EventKind string

// The kinds of events.
const (
	GotHeaders EventKind = "HEADERS"
	GotData    EventKind = "DATA"
	GotReset   EventKind = "RST_STREAM"
	GotInvalid EventKind = "malformed frame"
	GotLost    EventKind = "connection lost"
)

// Event is one thing that the peer did to a stream.
type Event struct {
	Kind   EventKind
	Fields Fields        // of HEADERS
	Data   []byte        // of DATA
	End    bool          // END_STREAM
	Code   http2.ErrCode // of RST_STREAM
	Err    error         // of a malformed frame or a lost connection
	At     time.Time
}

// H2Stream is one stream of an H2Conn. Methods that return an error may be called from any goroutine. The others fail the
// test that opened or accepted the stream, and are for that test's goroutine.
type H2Stream struct {
	ID   uint32
	conn *H2Conn
	t    testing.TB // set once, by Open or Accept

	// Owned by the test's goroutine.
	next      int    // index of the first event that was not taken
	inbox     []byte // DATA of taken events that ReadMessage has not returned
	peerEnded bool   // an event with END_STREAM was taken

	// Guarded by conn.mu.
	events     []Event
	received   int // bytes of DATA, without padding
	unreturned int // bytes received since the last WINDOW_UPDATE of the stream
	sendWindow int64
	heads      int           // see Seen
	isReset    bool          // see Seen
	isOver     bool          // over is closed
	over       chan struct{} // see Over
}

func (s *H2Stream) addLocked(e Event) {
	e.At = time.Now()
	s.events = append(s.events, e)
	s.seeLocked(e)
}

// Conn returns the connection of the stream.
func (s *H2Stream) Conn() *H2Conn { return s.conn }

// SendHeaders writes a header block that does not end the stream.
func (s *H2Stream) SendHeaders(fields Fields) {
	s.t.Helper()
	s.writeHeaders(fields, 0)
}

// SendTrailers writes a header block that ends the stream.
func (s *H2Stream) SendTrailers(fields Fields) {
	s.t.Helper()
	s.writeHeaders(fields, http2.FlagHeadersEndStream)
}

func (s *H2Stream) writeHeaders(fields Fields, flags http2.Flags) {
	s.t.Helper()
	if err := s.tryHeaders(fields, flags); err != nil {
		s.t.Fatalf("stream %d: write HEADERS: %v", s.ID, err)
	}
}

// Send writes b as DATA, within the peer's windows.
func (s *H2Stream) Send(b []byte) {
	s.t.Helper()
	if err := s.TrySend(b); err != nil {
		s.t.Fatalf("stream %d: send %d bytes: %v", s.ID, len(b), err)
	}
}

// SendEnd writes b as DATA; the last frame carries END_STREAM.
func (s *H2Stream) SendEnd(b []byte) {
	s.t.Helper()
	if err := s.TrySendEnd(b); err != nil {
		s.t.Fatalf("stream %d: send %d bytes and END_STREAM: %v", s.ID, len(b), err)
	}
}

// TrySend is Send for any goroutine.
func (s *H2Stream) TrySend(b []byte) error { return s.send(b, 0) }

// TrySendEnd is SendEnd for any goroutine.
func (s *H2Stream) TrySendEnd(b []byte) error { return s.send(b, http2.FlagDataEndStream) }

func (s *H2Stream) send(b []byte, flags http2.Flags) error {
	for {
		n, err := s.reserve(len(b))
		if err != nil {
			return err
		}
		chunk := b[:n]
		b = b[n:]
		end := len(b) == 0 && flags.Has(http2.FlagDataEndStream)
		if err := s.conn.Write(func(fr *http2.Framer) error { return fr.WriteData(s.ID, end, chunk) }); err != nil {
			return err
		}
		if len(b) == 0 {
			return nil
		}
	}
}

// reserve waits until the send windows are open, and takes up to want bytes of them for one frame.
func (s *H2Stream) reserve(want int) (n int, err error) {
	if want == 0 {
		return 0, nil
	}
	c := s.conn
	err = c.await(func() (bool, error) {
		if c.err != nil {
			return false, c.err
		}
		for _, e := range s.events {
			if e.Kind == GotReset {
				return false, fmt.Errorf("testbed: the peer reset the stream: %s", e.Code)
			}
		}
		n = int(min(int64(want), defaultFrame, s.sendWindow, c.sendWindow))
		if n <= 0 {
			return false, nil
		}
		s.sendWindow -= int64(n)
		c.sendWindow -= int64(n)
		c.changedLocked() // for AwaitBlocked
		return true, nil
	})
	return n, err
}

// AwaitBlocked waits until the send window of the stream or of its connection is used up.
func (s *H2Stream) AwaitBlocked() {
	s.t.Helper()
	c := s.conn
	if err := c.await(func() (bool, error) { return min(s.sendWindow, c.sendWindow) <= 0, c.err }); err != nil {
		s.t.Fatalf("stream %d: got credit to send, want none: %v", s.ID, err)
	}
}

// AwaitBytes waits until n bytes of DATA have come.
func (s *H2Stream) AwaitBytes(n int) {
	s.t.Helper()
	got := 0
	err := s.conn.await(func() (bool, error) { got = s.received; return got >= n, s.conn.err })
	if err != nil {
		s.t.Fatalf("stream %d: got %d bytes, want %d: %v", s.ID, got, n, err)
	}
}

// Reset writes RST_STREAM.
func (s *H2Stream) Reset(code http2.ErrCode) {
	s.t.Helper()
	if err := s.TryReset(code); err != nil {
		s.t.Fatalf("stream %d: write RST_STREAM: %v", s.ID, err)
	}
}

// TryHeaders is SendHeaders for any goroutine.
func (s *H2Stream) TryHeaders(fields Fields) error { return s.tryHeaders(fields, 0) }

// TryTrailers is SendTrailers for any goroutine.
func (s *H2Stream) TryTrailers(fields Fields) error {
	return s.tryHeaders(fields, http2.FlagHeadersEndStream)
}

func (s *H2Stream) tryHeaders(fields Fields, flags http2.Flags) error {
	s.conn.wmu.Lock()
	defer s.conn.wmu.Unlock()
	return s.conn.writeHeadersLocked(s.ID, fields, flags)
}

// TryReset is Reset for any goroutine.
func (s *H2Stream) TryReset(code http2.ErrCode) error {
	return s.conn.Write(func(fr *http2.Framer) error { return fr.WriteRSTStream(s.ID, code) })
}

// Next waits for the next event and returns it; an error if none comes within Patience. It is for one goroutine at a time,
// and not for streams on which ReadHeaders or ReadMessage is used.
func (s *H2Stream) Next() (Event, error) { return s.take() }

// take waits for the next event that was not taken and takes it.
func (s *H2Stream) take() (e Event, err error) {
	err = s.conn.await(func() (bool, error) {
		if s.next == len(s.events) {
			return false, nil
		}
		e = s.events[s.next]
		return true, nil
	})
	if err == nil {
		s.next++
	}
	return e, err
}

// ReadHeaders returns the next header block. Anything else that comes first fails the test.
func (s *H2Stream) ReadHeaders() Fields {
	s.t.Helper()
	e, err := s.take()
	if err != nil || e.Kind != GotHeaders {
		s.t.Fatalf("stream %d: got %s, %v, want HEADERS; all: %s", s.ID, e, err, s.History())
	}
	s.peerEnded = e.End
	return e.Fields
}

// ReadMessage returns the next whole message, or io.EOF when the stream has ended without one. Anything else that comes
// first fails the test.
func (s *H2Stream) ReadMessage() (Message, error) {
	s.t.Helper()
	for {
		if m, rest, ok := cutMessage(s.inbox); ok {
			s.inbox = rest
			return m, nil
		}
		if s.peerEnded && len(s.inbox) == 0 {
			return Message{}, io.EOF
		}
		e, err := s.take()
		if err != nil || (e.Kind != GotData && e.Kind != GotHeaders) {
			s.t.Fatalf("stream %d: got %s, %v, want a message; all: %s", s.ID, e, err, s.History())
		}
		s.inbox = append(s.inbox, e.Data...)
		s.peerEnded = e.End
	}
}

// WantMessage fails the test unless a message with this payload, uncompressed, comes next.
func (s *H2Stream) WantMessage(payload string) {
	s.t.Helper()
	m, err := s.ReadMessage()
	if err != nil || m.Flag != 0 || string(m.Payload) != payload {
		s.t.Fatalf("stream %d: got message %d %.80q, %v, want 0 %.80q", s.ID, m.Flag, m.Payload, err, payload)
	}
}

// WantEnd fails the test unless the peer ends the stream next, without a further message.
func (s *H2Stream) WantEnd() {
	s.t.Helper()
	if m, err := s.ReadMessage(); !errors.Is(err, io.EOF) {
		s.t.Fatalf("stream %d: got message %d %.80q, %v, want END_STREAM", s.ID, m.Flag, m.Payload, err)
	}
}

// AwaitReset waits for the peer's RST_STREAM, and returns its code and when it came. The end of the connection counts as
// CANCEL.
func (s *H2Stream) AwaitReset() (http2.ErrCode, time.Time) {
	s.t.Helper()
	var found Event
	err := s.conn.await(func() (bool, error) {
		for _, e := range s.events {
			if e.Kind == GotReset || e.Kind == GotLost {
				found = e
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		s.t.Fatalf("stream %d: got %s, want RST_STREAM", s.ID, s.History())
	}
	if found.Kind == GotLost {
		return http2.ErrCodeCancel, found.At
	}
	return found.Code, found.At
}

// Outcome waits until the peer has ended the stream, and returns everything that it sent from the beginning.
func (s *H2Stream) Outcome() Outcome {
	s.t.Helper()
	var o Outcome
	err := s.conn.await(func() (bool, error) {
		if !slices.ContainsFunc(s.events, Event.ends) {
			return false, nil
		}
		o = outcomeOf(s.events, s.conn.accepted != nil)
		return true, nil
	})
	if err != nil {
		s.t.Fatalf("stream %d: got %s, want an end of the stream", s.ID, s.History())
	}
	return o
}

// outcome returns everything that the peer has sent so far.
func (s *H2Stream) outcome() Outcome {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return outcomeOf(s.events, s.conn.accepted != nil)
}

// History returns the first events, for the text of a failure.
func (s *H2Stream) History() string {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	var parts []string
	for i, e := range s.events {
		if i == 12 {
			parts = append(parts, fmt.Sprintf("and %d more", len(s.events)-i))
			break
		}
		parts = append(parts, e.String())
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// ends reports whether the event is the last of its stream.
func (e Event) ends() bool {
	return e.End || e.Kind == GotReset || e.Kind == GotInvalid || e.Kind == GotLost
}

func (e Event) String() string {
	var b strings.Builder
	b.WriteString(string(e.Kind))
	switch e.Kind {
	case GotHeaders:
		fmt.Fprintf(&b, " %s", e.Fields)
	case GotData:
		fmt.Fprintf(&b, " of %d bytes", len(e.Data))
	case GotReset:
		fmt.Fprintf(&b, " %s", e.Code)
	case GotInvalid, GotLost:
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.End {
		b.WriteString(" END_STREAM")
	}
	return b.String()
}

package testbed

import "strings"

// Seen says how much a peer has sent on a stream so far.
type Seen struct {
	Heads int  // header blocks, without those of informational answers
	Bytes int  // of DATA, without padding
	Over  bool // END_STREAM or RST_STREAM has come, or the connection has ended
	Reset bool // RST_STREAM has come, also behind END_STREAM, or the connection has ended
}

// AwaitSeen waits until ready says true of what has come. The error says that it did not within Patience.
func (s *H2Stream) AwaitSeen(ready func(Seen) bool) error {
	return s.conn.await(func() (bool, error) {
		return ready(Seen{Heads: s.heads, Bytes: s.received, Over: s.isOver, Reset: s.isReset}), nil
	})
}

// Over returns a channel that is closed when the peer has ended the stream: with END_STREAM, with RST_STREAM, or with the
// connection.
func (s *H2Stream) Over() <-chan struct{} { return s.over }

// Events returns everything that has come so far.
func (s *H2Stream) Events() []Event {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return append([]Event(nil), s.events...)
}

// Done returns a channel that is closed when the connection has ended.
func (c *H2Conn) Done() <-chan struct{} { return c.done }

// seeLocked counts an event. The connection's mu is held.
func (s *H2Stream) seeLocked(e Event) {
	if e.Kind == GotHeaders && !strings.HasPrefix(e.Fields.Get(":status"), "1") {
		s.heads++
	}
	s.isReset = s.isReset || e.ends() && !e.End
	if e.ends() && !s.isOver {
		s.isOver = true
		close(s.over)
	}
}

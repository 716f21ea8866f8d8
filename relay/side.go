package relay

import (
	"io"
	"sync"

	"github.com/framegate/framegate/relay/h2"
)

// side is a stream that goroutines read and write: one side of a call that is not relayed. Its methods that end in Locked want
// the shard's mu.
type side struct {
	shard  *shard
	stream *h2.Stream
	moved  sync.Cond // with the shard's mu: something below has changed

	received h2.Pending
	credits  int   // bytes of received, from its beginning, that the peer was given back the window of
	ended    bool  // the peer's END_STREAM has come, and is behind received
	err      error // why reads and writes fail; nil while the stream is open
	over     bool  // writes fail: the peer wants nothing any more
}

func (s *side) init(on *shard, stream *h2.Stream) {
	s.shard, s.stream, s.moved.L = on, stream, &on.mu
}

// waitLocked waits until something has changed. What was written so far is sent meanwhile.
func (s *side) waitLocked() {
	s.shard.flushSoon()
	s.moved.Wait()
	s.shard.tick()
}

// dataLocked takes DATA.
func (s *side) dataLocked(p []byte, end bool) {
	if s.err == nil { // else nobody reads it
		s.received.Add(s.shard.memory, p)
	}
	s.ended = s.ended || end
	s.moved.Broadcast()
}

// failLocked makes reads and writes fail from now on. The stream has ended or is about to.
func (s *side) failLocked(err error) {
	if s.err == nil {
		s.err = err
	}
	s.received.Clear(s.shard.memory)
	s.moved.Broadcast()
}

// read fills p with DATA or fails: with io.EOF if the direction has ended, with io.ErrUnexpectedEOF if it has within p.
func (s *side) read(p []byte) (n int, err error) {
	s.shard.lock()
	defer s.shard.unlockSoon()
	for {
		k := s.received.Read(s.shard.memory, p[n:])
		paid := min(k, s.credits)
		s.credits -= paid
		s.stream.Consumed(k - paid)
		switch n += k; {
		case n == len(p):
			return n, nil
		case s.err != nil:
			return n, s.err
		case s.ended && n == 0:
			return 0, io.EOF
		case s.ended:
			return n, io.ErrUnexpectedEOF
		}
		s.waitLocked()
	}
}

// write sends p, and waits until what was written before has left the stream's queue: so no more than p waits there.
func (s *side) write(p []byte, end bool) error {
	s.shard.lock()
	defer s.shard.unlockSoon()
	err := s.writableLocked()
	if err == nil {
		s.stream.WriteData(p, end)
	}
	return err
}

// writableLocked waits until nothing waits in the stream's queue.
func (s *side) writableLocked() error {
	for s.err == nil && !s.over && s.stream.Queued() > 0 {
		s.waitLocked()
	}
	if s.err == nil && s.over {
		return io.ErrClosedPipe
	}
	return s.err
}

package fanout

import (
	"crypto/sha256"
	"hash"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
)

// quorum makes what enough targets answer alike the answer of the call: the messages of those that end with OK are compared,
// decompressed. They are held until then. If so many answers cannot be alike any more, the call ends with ABORTED.
type quorum struct {
	of    *Stream
	votes map[vote]int // guarded by the stream's mu
}

// vote is the hash of a target's messages.
type vote [sha256.Size]byte

// ballot has the messages of a target.
type ballot struct {
	messages []frame.Message
	bytes    int64
	hash     hash.Hash
}

// plain implements joiner.
func (q *quorum) plain() bool { return true }

// message implements joiner.
func (q *quorum) message(t *target, m frame.Message) error {
	b := &t.ballot
	if b.hash == nil {
		b.hash = sha256.New()
	}
	if b.bytes += int64(m.Len()); b.bytes > q.of.cfg.MaxBytes {
		return local.Errorf(codes.ResourceExhausted, local.ReasonMessageTooLarge, "response: its messages are together %v", frame.ErrTooLarge)
	}
	prefix := frame.PrefixOf(m)
	b.hash.Write(prefix[:])
	b.hash.Write(m.Payload)
	b.messages = append(b.messages, m)
	return nil
}

// end implements joiner.
func (q *quorum) end(t *target) {
	s := q.of
	s.mu.Lock()
	s.left--
	most := 0
	if t.status.Code() == codes.OK {
		var v vote
		if t.ballot.hash != nil {
			t.ballot.hash.Sum(v[:0])
		}
		q.votes[v]++
		if q.votes[v] == s.cfg.Quorum && !s.ended {
			s.beginLocked("", headersOf(t))
			for _, m := range t.ballot.messages {
				s.putLocked(m)
			}
			s.endLocked(t.status, t.trailer, nil) // before another target has a quorum, too
			s.mu.Unlock()
			s.cancelAll()
			return
		}
	}
	for _, n := range q.votes {
		most = max(most, n)
	}
	left := s.left
	s.mu.Unlock()
	if most+left < s.cfg.Quorum {
		s.refuse(local.Errorf(codes.Aborted, local.ReasonNoQuorum, "at most %d of %d targets answer alike, want a quorum of %d", most+left, len(s.targets), s.cfg.Quorum))
	}
}

package fanout

import (
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/leg"
)

// first makes the answer of one target that of the call, unchanged, and cancels the others: of the first target that ends with OK
// or, if the method does not answer with one message, that sends one. If there is none, the call ends with the worst status.
type first struct {
	of     *Stream
	winner *target // guarded by the stream's mu
}

// plain implements joiner.
func (f *first) plain() bool { return false }

// message implements joiner.
func (f *first) message(t *target, m frame.Message) error {
	s := f.of
	if s.cfg.Unary {
		t.replies(m)
		return nil
	}
	if !f.wins(t) {
		return leg.ErrEnded
	}
	err := s.emit(m)
	s.hold(-int64(len(m.Payload)))
	return err
}

// wins makes t the winner if there is none, and reports whether it is.
func (f *first) wins(t *target) bool {
	s := f.of
	s.mu.Lock()
	if f.winner == nil && !s.ended {
		f.winner = t
		s.beginLocked(t.encoding, headersOf(t))
	}
	won := f.winner == t
	s.mu.Unlock()
	if won {
		f.cancelOthers(t)
	}
	return won
}

func (f *first) cancelOthers(winner *target) {
	for _, t := range f.of.targets {
		if t != winner && t.leg != nil {
			t.leg.Cancel(leg.ErrEnded)
		}
	}
}

// headersOf returns the headers of a target's answer, never nil.
func headersOf(t *target) metadata.MD {
	if t.headers == nil {
		return metadata.MD{}
	}
	return t.headers
}

// end implements joiner.
func (f *first) end(t *target) {
	s := f.of
	s.mu.Lock()
	s.left--
	switch {
	case s.ended:
		s.mu.Unlock()
		return
	case f.winner == nil && t.status.Code() == codes.OK:
		f.winner = t
		s.beginLocked(t.encoding, headersOf(t))
		if s.cfg.Unary {
			s.putLocked(t.reply)
		}
	case f.winner == nil && s.left == 0:
		t = s.worstLocked()
	case f.winner != t:
		s.mu.Unlock()
		return
	}
	s.endLocked(t.status, t.trailer, nil)
	s.mu.Unlock()
	s.cancelAll()
}

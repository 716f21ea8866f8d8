package fanout

import (
	"cmp"
	"slices"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/resolver/spec"
)

// newJoiner returns the joiner of the stream's mode.
func newJoiner(s *Stream) joiner {
	switch s.cfg.Mode {
	case spec.FanoutFirst:
		return &first{of: s}
	case spec.FanoutQuorum:
		return &quorum{of: s, votes: map[vote]int{}}
	case spec.FanoutEnvelope:
		return &gather{of: s, as: envelope{}}
	}
	return &gather{of: s, as: aggregate{s.cfg.Fields}}
}

// gather joins the answers of all targets. Of a method that answers with one message, the answer is one message with the parts of
// all targets; of others, it has each message of each target as it comes.
type gather struct {
	of   *Stream
	as   form
	over []*target // that have ended, in that order; guarded by the stream's mu
}

// form is how answers are joined.
type form interface {
	// part appends what the reply of a target is in the answer. It fails if the reply cannot be joined; then the target is
	// rejected, and asked again.
	part(answer []byte, t *target) ([]byte, *local.Error)
	// message returns what a message of a target is in a stream of answers. An error ends the target's part of the call.
	message(t *target, payload []byte) ([]byte, error)
	// failure returns the message that says in a stream how a target failed; nil for none.
	failure(t *target) []byte
}

// plain implements joiner.
func (g *gather) plain() bool { return true }

// message implements joiner.
func (g *gather) message(t *target, m frame.Message) error {
	if g.of.cfg.Unary {
		t.replies(m)
		return nil
	}
	defer g.of.hold(-int64(len(m.Payload)))
	payload, err := g.as.message(t, m.Payload)
	if err != nil {
		return err
	}
	return g.of.emit(frame.Message{Payload: payload})
}

// end implements joiner.
func (g *gather) end(t *target) {
	s := g.of
	if !s.cfg.Unary && t.status.Code() != codes.OK {
		if m := g.as.failure(t); m != nil {
			_ = s.emit(frame.Message{Payload: m}) // fails only when the call has ended
		}
	}
	s.mu.Lock()
	g.over = append(g.over, t)
	if s.left--; s.left > 0 {
		s.mu.Unlock()
		return
	}
	if s.cfg.Unary {
		g.joinLocked()
	}
	st, trailer := g.resultLocked()
	s.endLocked(st, trailer, nil)
	s.mu.Unlock()
	s.cancelAll()
}

// joinLocked makes the one message of the answer, unless the call fails.
func (g *gather) joinLocked() {
	s := g.of
	over := slices.Clone(g.over)
	if s.cfg.Order == spec.OrderTargets {
		slices.SortFunc(over, func(a, b *target) int { return cmp.Compare(a.place, b.place) })
	}
	size := 0
	for _, t := range over {
		size += len(t.reply.Payload) + partOverhead
	}
	answer := make([]byte, 0, size)
	for _, t := range over {
		joined, e := g.as.part(answer, t)
		if e != nil {
			t.reject(e)
			joined, _ = g.as.part(answer, t)
		}
		answer, t.reply = joined, frame.Message{}
	}
	if st, _ := g.resultLocked(); st.Code() == codes.OK {
		s.putLocked(frame.Message{Payload: answer})
	}
}

// partOverhead is about how many bytes the answer has for a target beside its reply.
const partOverhead = 64

// resultLocked returns the status of the call when all targets have ended.
func (g *gather) resultLocked() (*status.Status, map[string][]string) {
	s, good := g.of, 0
	for _, t := range g.over {
		if t.status.Code() == codes.OK {
			good++
		}
	}
	if good >= s.cfg.MinSuccess {
		return status.New(codes.OK, ""), nil
	}
	if worst := s.worstLocked(); worst != nil {
		return worst.status, worst.trailer
	}
	e := local.Errorf(codes.Unavailable, local.ReasonNoEndpoint, "%d targets ended with OK, want min_success %d", good, s.cfg.MinSuccess)
	return e.Status(), e.Trailer()
}

package mirror

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"google.golang.org/protobuf/proto"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/resolver/spec"
)

// comparison compares the answer that a client gets with that of a mirror, message by message as they come. What is not compared yet is
// held, of either up to as much as the mirror's queue. The client's side only holds: the mirror's goroutine
// compares, or another one if the mirror has sent its part before.
//
//	open ─> settled     both have ended, a difference was found, or it was given up
type comparison struct {
	mirror *Mirror
	call   *Call

	client, mirrors side

	mu      sync.Mutex // guards the fields below, and those of the sides that say so
	index   int64      // of the next pair of messages
	settled bool
	working bool // a goroutine compares
}

// side is one of the two answers: a leg.Answer. Fields without a comment belong to the goroutine that reads the answer.
type side struct {
	of       *comparison
	encoding string
	messages frame.Assembler

	// guarded by the comparison's mu
	waiting []frame.Message // that are not compared yet
	held    held
	ended   bool
	status  *status.Status
	trailer metadata.MD
}

func newComparison(m *Mirror, c *Call) *comparison {
	one := &comparison{mirror: m, call: c}
	for _, s := range []*side{&one.client, &one.mirrors} {
		s.of, s.messages.To = one, s
	}
	return one
}

// Headers implements leg.Answer. Headers are not compared.
func (s *side) Headers(encoding string, _ metadata.MD) error {
	s.encoding = encoding
	return nil
}

// add takes bytes of the answer, and reports whether they are still compared.
func (s *side) add(p []byte) bool {
	s.of.mu.Lock()
	settled := s.of.settled
	s.of.mu.Unlock()
	if !settled {
		s.messages.Add(p)
	}
	return !settled
}

// Data implements leg.Answer.
func (s *side) Data(p []byte) error {
	s.add(p)
	return nil
}

// Wants implements frame.Messages.
func (s *side) Wants(length int64) bool {
	if length > s.of.mirror.doc.Queue.MaxBytes() {
		s.of.giveUp()
		return false
	}
	return true
}

// Message implements frame.Messages.
func (s *side) Message(m frame.Message) {
	c := s.of
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.settled {
		return
	}
	if !s.held.take(c.mirror, m) {
		c.settleLocked(Incomplete, nil)
		return
	}
	s.waiting = append(s.waiting, m)
	c.goOnLocked(s == &c.mirrors)
}

// End implements leg.Answer.
func (s *side) End(st *status.Status, trailer metadata.MD) {
	c := s.of
	c.mu.Lock()
	defer c.mu.Unlock()
	s.ended, s.status, s.trailer = true, st, trailer
	if len(trailer[local.ReasonTrailer]) > 0 {
		c.settleLocked(Incomplete, nil)
	}
	c.goOnLocked(s == &c.mirrors)
}

// giveUp settles the comparison as incomplete.
func (c *comparison) giveUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settleLocked(Incomplete, nil)
}

// forget settles the comparison without a result: there was no copy.
func (c *comparison) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked()
}

// dropLocked ends the comparison's part in the memory.
func (c *comparison) dropLocked() {
	c.settled = true
	for _, s := range []*side{&c.client, &c.mirrors} {
		s.waiting = nil
		s.held.end(c.mirror)
	}
}

// settleLocked counts the result, once.
func (c *comparison) settleLocked(r Result, found *Difference) {
	if c.settled {
		return
	}
	c.dropLocked()
	m := c.mirror
	m.mu.Lock()
	m.compared[r]++
	m.mu.Unlock()
	if found != nil {
		found.Time, found.Route, found.Mirror, found.Method, found.Call = time.Now(), m.route, m.name, c.call.Method, c.call.ID()
		m.differences.add(*found)
	}
}

// goOnLocked compares what there is to compare: here in the mirror's goroutine, else in one of its own, so that the client's
// answer does not wait.
func (c *comparison) goOnLocked(inMirrors bool) {
	if c.settled || c.working || !c.readyLocked() {
		return
	}
	c.working = true
	if inMirrors {
		c.workLocked()
		return
	}
	if !c.mirror.registry.run(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.workLocked()
	}) {
		c.settleLocked(Incomplete, nil)
	}
}

// readyLocked reports whether there is something to compare.
func (c *comparison) readyLocked() bool {
	return len(c.client.waiting) > 0 && len(c.mirrors.waiting) > 0 || c.client.ended && c.mirrors.ended
}

// workLocked compares until there is nothing to compare. It unlocks mu while it looks at messages.
func (c *comparison) workLocked() {
	defer func() { c.working = false }()
	for !c.settled && c.readyLocked() {
		if len(c.client.waiting) == 0 || len(c.mirrors.waiting) == 0 {
			c.compareEndsLocked()
			return
		}
		a, b, index := c.client.waiting[0], c.mirrors.waiting[0], c.index
		c.client.waiting, c.mirrors.waiting = c.client.waiting[1:], c.mirrors.waiting[1:]
		c.client.held.give(c.mirror, a)
		c.mirrors.held.give(c.mirror, b)
		c.index++
		clients, mirrors := c.client.encoding, c.mirrors.encoding
		c.mu.Unlock()
		found := c.compareMessages(a, b, clients, mirrors)
		c.mu.Lock()
		if found != nil {
			found.Index = index
			c.settleLocked(Different, found)
		}
	}
}

// compareMessages returns how two messages differ, or nil.
func (c *comparison) compareMessages(a, b frame.Message, encodingA, encodingB string) *Difference {
	x, y := plainOf(a, encodingA, c.call.MaxBytes), plainOf(b, encodingB, c.call.MaxBytes)
	if x != nil && y != nil && slices.Equal(x, y) || x == nil && y == nil && slices.Equal(a.Payload, b.Payload) {
		return nil
	}
	left, right := c.decode(x), c.decode(y)
	if left != nil && right != nil {
		for _, path := range c.ignored(spec.IgnoreMessage) {
			fields := strings.Split(path, ".")
			clearField(left, fields)
			clearField(right, fields)
		}
		if proto.Equal(left.Interface(), right.Interface()) {
			return nil
		}
	}
	return &Difference{What: DiffersMessage, Client: c.show(left, x), Got: c.show(right, y)}
}

// ignored returns the entries of Compare.Ignore that begin with prefix, without it.
func (c *comparison) ignored(prefix string) (all []string) {
	for _, path := range c.mirror.doc.Compare.Ignore {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			all = append(all, rest)
		}
	}
	return all
}

// compareEndsLocked compares the rest of two answers that have ended and settles the comparison: one of them has no message left.
func (c *comparison) compareEndsLocked() {
	a, b := &c.client, &c.mirrors
	switch {
	case a.status.Code() != b.status.Code():
		c.settleLocked(Different, &Difference{What: DiffersCode, Client: shownCode(a.status.Code()), Got: shownCode(b.status.Code())})
		return
	case len(a.waiting) != len(b.waiting):
		c.settleLocked(Different, &Difference{What: DiffersMessages, Client: shown(c.index + int64(len(a.waiting))), Got: shown(c.index + int64(len(b.waiting)))})
		return
	case a.status.Code() != codes.OK && !proto.Equal(a.status.Proto(), b.status.Proto()):
		c.settleLocked(Different, &Difference{What: DiffersStatus, Client: shown(a.status.Message()), Got: shown(b.status.Message())})
		return
	}
	ignored := c.ignored(spec.IgnoreTrailer)
	names := slices.Sorted(maps.Keys(a.trailer))
	for name := range b.trailer {
		if _, ok := a.trailer[name]; !ok {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if !slices.Contains(ignored, name) && !slices.Equal(a.trailer[name], b.trailer[name]) {
			c.settleLocked(Different, &Difference{What: DiffersTrailer, Name: name, Client: shown(a.trailer[name]), Got: shown(b.trailer[name])})
			return
		}
	}
	c.settleLocked(Same, nil)
}

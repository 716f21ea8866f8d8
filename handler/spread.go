package handler

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/header"
	"github.com/framegate/framegate/handler/leg"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/mirror"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/handler/structmode/rule"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// spread gives the messages of a call to the mirrors of its route, and to its backend those that the route's selection leaves it.
//
//	                   ┌─> copies
//	request ─> message ┤
//	                   └─> the backend or, in its place, the mirrors that answer
//
// Without a selection of the backend and mirrors that may answer, the request passes in pieces, and copies are made of what
// passes. Otherwise the request is read message by message: the first one that anybody gets decides who answers the call.
type spread struct {
	call    *call
	set     *mirror.Set
	request *spec.Request
	info    mirror.Call

	copies []*mirror.Copy
	most   int64 // bytes of the longest message that a copy takes

	// Of the request; owned by the goroutine that reads it.
	messages  frame.Assembler // of those that pass
	index     int64           // of the next message
	next      frame.Taker     // of struct mode; nil for none
	share     budget.Share    // of the messages that are held, in frame mode
	room      budget.Call
	decided   bool  // who answers
	answering []int // the mirrors that answer in place of the backend, by their place

	watchers watchers // of the answer
}

// newSpread returns the spread of a call that begins; nil if the call goes to its backend alone, whole.
func newSpread(c *call, req *spec.Request) *spread {
	if c.part || !c.target.Spreads() {
		return nil
	}
	set := c.proxy.mirrors.Of(c.target.Document())
	if set == nil || c.target.Copies == 0 && set.Backends == nil {
		return nil
	}
	s := &spread{call: c, set: set, request: req, decided: !set.Responds}
	s.messages.To = (*passing)(s)
	s.info = mirror.Call{
		Began: time.Now(), Route: c.target.Route, Method: c.down.Method(), Peer: func() string { return addressText(c.down.RemoteAddr()) },
		Subtype: c.down.ContentSubtype(), Encoding: c.down.Encoding(), Metadata: c.down.Metadata(), MaxBytes: c.proxy.wholeLimit(),
		Schema: s.schema(), Redacts: structmode.Redacts(c.target.Program),
	}
	if d, ok := c.ctx.Deadline(); ok {
		s.info.Timeout = time.Until(d)
	}
	return s
}

// waits reports whether the request is read message by message.
func (s *spread) waits() bool { return s.set.Backends != nil || s.set.Responds }

// schema returns mirror.Call.Schema, which goroutines of copies call as well. If endpoints are asked for the schema, only a call that
// depends on it waits for their answer.
func (s *spread) schema() func() *rule.Compiled {
	c := s.call
	if c.target.Program == nil {
		return func() *rule.Compiled { return nil }
	}
	ctx, target, method := c.ctx, c.target, c.down.Method() // a copy of the target, which the call changes
	if !s.waits() {
		ctx = ended
	}
	var mu sync.Mutex // guards known, and target
	var known *rule.Compiled
	return func() *rule.Compiled {
		mu.Lock()
		defer mu.Unlock()
		if known == nil {
			known, _ = c.proxy.structMode.Rules(ctx, &target, method) // nil after an error
		}
		return known
	}
}

// ended is a context that has ended.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// start begins the copies of a call whose backend answers it: md is the metadata that the backend gets. If the request is read message
// by message, choose has begun them.
func (s *spread) start(md metadata.MD) {
	if !s.waits() {
		s.info.Metadata = md
		s.beginCopies()
	}
}

// beginCopies begins the copies for the mirrors that get one.
func (s *spread) beginCopies() {
	for i, m := range s.set.Mirrors {
		if s.call.target.Copies&(1<<i) == 0 || slices.Contains(s.answering, i) {
			continue
		}
		s.beginCopy(m, func() cluster.Target { return s.call.target.Mirror(i, s.request) })
	}
}

func (s *spread) beginCopy(m *mirror.Mirror, target func() cluster.Target) {
	one := m.Begin(&s.info, s.call.down.RequestEnded(), target, func(md metadata.MD) leg.Request { return leg.RequestOf(s.call.down, md) })
	if one == nil {
		return
	}
	s.copies = append(s.copies, one)
	s.most = max(s.most, one.MaxBytes())
	if a, raw := one.Answers(); a != nil {
		s.watchers.add(a, raw)
	}
}

// take makes r, the request direction of the call, pass its messages whole, if that is needed.
func (s *spread) take(r *frame.Redirect) {
	if !s.waits() {
		return
	}
	s.next = r.Taker
	r.Taker = s
	if s.next == nil {
		r.MaxBytes = s.call.proxy.wholeLimit()
		s.room.Open(s.call.ctx, s.call.proxy.budget, s)
		s.share.Of(&s.room)
		r.Share = &s.share
	}
}

// Evict implements budget.Owner.
func (s *spread) Evict() { s.call.abort(local.ErrNoRoom) }

// TakeMessage implements frame.Taker.
func (s *spread) TakeMessage(flag byte, payload []byte) (out []byte, forward bool, err error) {
	out, forward = payload, true
	if s.next != nil {
		if out, forward, err = s.next.TakeMessage(flag, payload); err != nil || !forward {
			return out, forward, err
		}
	}
	v := mirror.NewView(&s.info, frame.Message{Flag: flag, Payload: out}, s.index)
	s.index++
	forward, _ = s.set.Backends.Delivers(&v)
	if !s.decided {
		s.decide(&v, forward)
	}
	if s.answering != nil {
		forward = slices.ContainsFunc(s.answering, func(i int) bool {
			deliver, _ := s.set.Mirrors[i].Selects(&v)
			return deliver
		})
	}
	s.give(&v, func() []byte { return slices.Clone(out) })
	return out, forward, nil
}

// decide decides who answers the call, if somebody gets the message: the mirrors that may answer it or, without any, the backend.
func (s *spread) decide(v *mirror.View, backends bool) {
	got := backends
	for i, m := range s.set.Mirrors {
		if s.call.target.Copies&(1<<i) == 0 {
			continue
		}
		deliver, respond := m.Selects(v)
		got = got || deliver
		if respond {
			s.answering = append(s.answering, i)
		}
	}
	if !got {
		return
	}
	s.decided = true
	if s.answering != nil {
		s.beginCopy(s.set.Primary, func() cluster.Target {
			t := s.call.target.Aside()
			t.Mode = spec.ModeFrame // nobody sees its answer
			return t
		})
	}
	s.beginCopies()
}

// give gives a message to the copies. own returns its payload in memory that nobody changes; it is called at most once.
func (s *spread) give(v *mirror.View, own func() []byte) {
	var shared []byte
	for _, one := range s.copies {
		if int64(v.Len()) > one.MaxBytes() {
			one.Missed(v)
			continue
		}
		one.Take(v, func() []byte {
			if shared == nil {
				shared = own()
			}
			return shared
		})
	}
}

// choose reads the request, if it must, until it is known who answers, and makes that the call's target.
func (s *spread) choose(md metadata.MD) *local.Error {
	if !s.waits() {
		return nil
	}
	header.DropBodyFields(md) // which are not true of a part of the request
	s.info.Metadata = maps.Clone(md)
	s.call.addVia(s.info.Metadata)
	if s.decided {
		s.beginCopies()
	}
	had := !s.call.upload.empty
	if e := s.call.awaitMessage(); e != nil {
		return e
	}
	if s.call.upload.empty && had && s.call.upload.frames.Held == nil && s.index > 0 {
		s.call.upload.sent.Store(true)
		s.halfClose()
		return errUnanswered
	}
	if !s.decided { // a request without messages
		s.decided = true
		s.beginCopies()
	}
	switch len(s.answering) {
	case 0:
	case 1:
		i := s.answering[0]
		m := s.call.target.Mirror(i, s.request)
		m.Retry = answersWithin(s.doc(i))
		s.call.target.GoTo(m)
		md[mirror.Header] = []string{s.set.Mirrors[i].Name()}
	default:
		s.call.many = firstOf(s)
	}
	return nil
}

func (s *spread) doc(i int) *spec.Mirror { return &s.call.target.Document().Mirrors[i] }

// answersWithin bounds how long a mirror that answers a call may take to begin its answer. It makes no further attempt.
func answersWithin(doc *spec.Mirror) *spec.Retry {
	return &spec.Retry{Attempts: 1, PerTryTimeout: doc.Waits()}
}

var errUnanswered = local.Errorf(codes.DeadlineExceeded, local.ReasonUnanswered, "no backend or mirror is selected to answer a message of this call")

// copied returns a writer in front of dst that gives what passes to the copies, or dst itself if that is not needed.
func (s *spread) copied(dst frame.Writer) frame.Writer {
	if s.waits() || len(s.copies) == 0 {
		return dst
	}
	return copying{dst, s}
}

// copying is a frame.Writer that gives what passes to the copies of a call.
type copying struct {
	frame.Writer
	spread *spread
}

// Write implements frame.Writer.
func (w copying) Write(p []byte) error {
	w.spread.messages.Add(p)
	return w.Writer.Write(p)
}

// passing is a spread as the frame.Messages of the request that passes.
type passing spread

// Wants implements frame.Messages.
func (p *passing) Wants(length int64) bool {
	if length+frame.PrefixLen <= p.most {
		return true
	}
	p.index++
	for _, one := range p.copies {
		one.Missed(nil)
	}
	return false
}

// Message implements frame.Messages.
func (p *passing) Message(m frame.Message) {
	s := (*spread)(p)
	v := mirror.NewView(&s.info, m, s.index)
	s.index++
	s.give(&v, func() []byte { return m.Payload })
}

// halfClose ends the request of the copies.
func (s *spread) halfClose() {
	for _, one := range s.copies {
		one.HalfClose()
	}
}

// finish ends the copies' part in the call. Nothing runs for the call any more.
func (s *spread) finish() {
	complete := s.call.upload.sent.Load()
	for _, one := range s.copies {
		one.Finish(complete)
	}
	s.share.Free()
}

package fanout

import (
	"errors"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/leg"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/resolver/spec"
)

// Write implements stream.Upstream: it gives each message that is complete to the targets.
func (s *Stream) Write(p []byte) error {
	s.request.Add(p)
	select {
	case <-s.done:
		return leg.ErrEnded
	default:
		return nil
	}
}

// request is a Stream as the frame.Messages of the request.
type request Stream

// Wants implements frame.Messages.
func (r *request) Wants(length int64) bool {
	s := (*Stream)(r)
	switch {
	case length > s.cfg.MaxBytes:
		s.refuse(local.Errorf(codes.ResourceExhausted, local.ReasonMessageTooLarge, "request %v", frame.ErrTooLarge))
	case !s.holdRequest(length):
		s.refuse(local.ErrNoRoom)
	default:
		return true
	}
	return false
}

// holdRequest takes room for a message of the request, beside those that the slowest target has not taken yet.
func (s *Stream) holdRequest(length int64) bool {
	var waiting int64
	for _, t := range s.targets {
		if t.leg != nil {
			_, bytes, _ := t.leg.Waiting()
			waiting = max(waiting, bytes)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	more := waiting + length - s.requested
	if !s.room.Hold(s.held + more) {
		return false
	}
	s.held += more
	s.requested += more
	return true
}

// Message implements frame.Messages.
func (r *request) Message(m frame.Message) {
	s := (*Stream)(r)
	var deadline time.Time
	if s.cfg.SlowTarget == spec.SlowTargetDrop {
		deadline = time.Now().Add(slowTime) // of all targets together
	}
	for _, t := range s.targets {
		if t.leg == nil || t.Wants != nil && !t.Wants(m) {
			continue
		}
		if errors.Is(t.leg.PushWhenRoom(m, deadline), leg.ErrFull) { // when the target has ended, its answer says so
			t.fail(errSlow)
		}
	}
}

// slowTime is how long the queue of a target may be full before the target is dropped, if slow targets are.
const slowTime = time.Second

var errSlow = local.Errorf(codes.ResourceExhausted, local.ReasonOverloaded, "the target takes the request too slowly")

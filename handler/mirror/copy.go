package mirror

import (
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/leg"
	"github.com/framegate/framegate/resolver/cluster"
)

// Copy is the copy of one call for one mirror. Its methods do not block. One goroutine calls those that concern the request,
// and one those that concern the answer.
//
//	Begin ─> Take... ─> HalfClose ─┐
//	     └─> Answers               ├─> Finish
type Copy struct {
	mirror *Mirror
	receiver
}

// receiver is what gets a copy: a Copy without the selection.
type receiver interface {
	take(m frame.Message)
	// miss says that a message is left out.
	miss(why Dropped)
	halfClose()
	finish(complete bool)

	// answers returns what takes the answer that the client gets; nil if it is not wanted.
	answers() leg.Answer
}

// wants reports whether a message of the answer is short enough for the mirror's queue, and counts it for its receiver if not.
func wants(r receiver, m *Mirror, length int64) bool {
	if length > m.doc.Queue.MaxBytes() {
		r.miss(DroppedTooLong)
		return false
	}
	return true
}

// Begin begins the copy of a call, or returns nil if the call gets none. whole says that the client has sent the whole request
// already. target is where a copy for a backend goes, and request what it sends, with that metadata; both are called at most once,
// before Begin returns.
func (m *Mirror) Begin(c *Call, whole bool, target func() cluster.Target, request func(metadata.MD) leg.Request) *Copy {
	if m.doc.Backend != nil {
		if b := m.beginBackend(c, whole, target, request); b != nil {
			return &Copy{m, b}
		}
		return nil
	}
	if o := m.outlet.Load(); o != nil {
		return &Copy{m, o.begin(m, c)}
	}
	return nil
}

// Name returns the name of the mirror.
func (c *Copy) Name() string { return c.mirror.name }

// Take delivers a message of the request if the mirror's selection says so. own returns its payload in memory that nobody changes;
// it is called only if the message is delivered.
func (c *Copy) Take(v *View, own func() []byte) {
	if deliver, _ := c.mirror.selection.Delivers(v); deliver {
		c.take(frame.Message{Flag: v.message.Flag, Payload: own()})
	}
}

// Selects reports whether the mirror gets a message, and whether it may answer it.
func (m *Mirror) Selects(v *View) (deliver, respond bool) { return m.selection.Delivers(v) }

// Name returns the name of the mirror.
func (m *Mirror) Name() string { return m.name }

// MaxBytes returns how long a message may be of which there is a copy.
func (c *Copy) MaxBytes() int64 { return c.mirror.doc.Queue.MaxBytes() }

// Missed says that a message was too long for the mirror's queue. v is nil if nobody has held it.
func (c *Copy) Missed(v *View) {
	if v != nil {
		if deliver, _ := c.mirror.selection.Delivers(v); !deliver {
			return
		}
	}
	c.miss(DroppedTooLong)
}

// HalfClose says that the request has ended.
func (c *Copy) HalfClose() { c.halfClose() }

// Answers returns what takes the answer that the client gets; nil if the mirror does not want it. If raw, it is the answer before rules
// of the route change it: what a backend's is compared with.
func (c *Copy) Answers() (a leg.Answer, raw bool) { return c.answers(), c.mirror.doc.Backend != nil }

// Finish says that the client's call has ended, and whether the client had sent its whole request. No method is called afterwards.
func (c *Copy) Finish(complete bool) { c.finish(complete) }

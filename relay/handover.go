package relay

import (
	"context"
	"time"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/buffer"
	"github.com/framegate/framegate/handler/workers"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/relay/h2/hpack"
	"github.com/framegate/framegate/resolver/cluster"
)

// kept is the request of a relayed call so far, until the answer's headers have come: the endpoint may refuse the call, and then
// package handler makes another attempt.
type kept struct {
	small   int        // bytes of the call's smallRequest: a short request takes no chunk
	data    h2.Pending // or else all of it
	over    bool       // there is more than may be kept, or it is no longer needed
	credits int        // bytes of the request that the client may send again: they have left for the endpoint
}

// smallRequest has the bytes of a short request.
type smallRequest [240]byte

// keep notes DATA of the request.
func (c *call) keep(p []byte) {
	k, m := &c.kept, c.shard.memory
	switch {
	case k.over:
	case k.data.Len() == 0 && k.small+len(p) <= len(c.small):
		k.small += copy(c.small[k.small:], p)
	case k.small+k.data.Len()+len(p) > buffer.MaxInline:
		k.drop(m)
	default:
		c.spill()
		k.data.Add(m, p)
	}
}

// spill makes all that is kept be in data.
func (c *call) spill() {
	if k := &c.kept; k.small > 0 {
		k.data.Add(c.shard.memory, c.small[:k.small])
		k.small = 0
	}
}

// drop says that the request is no longer needed.
func (k *kept) drop(m *h2.Memory) {
	k.over, k.small = true, 0
	k.data.Clear(m)
}

// mayHandOver reports whether package handler can go on with the call, whose attempt has failed.
func (c *call) mayHandOver() bool {
	return c.picked && !c.answered && !c.kept.over && !c.client.Ended()
}

// handOver gives a call that has an endpoint to package handler: it waits for a connection or, if an attempt has failed, makes
// another one.
func (c *call) handOver(failed *handler.FailedAttempt) {
	c.general(handler.Begun{
		Target: c.target, Attempt: c.attempt, Resolved: true, Admitted: true, Picked: true, Failed: failed,
	})
}

// general gives the call to package handler.
func (c *call) general(begun handler.Begun) {
	c.observed.handOver(c, &begun)
	d := &downstream{call: c, method: c.method, idle: c.target.IdleTimeout, age: c.target.MaxStreamAge}
	d.init(c.shard, &c.client)
	c.spill()
	d.ended, d.received, d.credits = c.sent, c.kept.data, c.kept.credits
	until := c.deadline.at // the earlier of the route's and the client's
	for _, f := range c.fields {
		switch f.Kind {
		case hpack.ContentType:
			d.contentType = f.Value
		case hpack.GRPCEncoding:
			d.encoding = f.Value
		case hpack.GRPCAcceptEncoding:
			d.acceptEncoding = f.Value
		case hpack.GRPCTimeout:
			if t, ok := parseTimeout(f.Value); ok && until == 0 {
				until = c.began + int64(max(min(t, maxWait), 1))
			}
		}
	}
	d.md = metadataOf(c.fields, func(f *hpack.Field) bool {
		switch f.Kind {
		case hpack.Authority:
			return false
		case hpack.TE, hpack.GRPCTimeout, hpack.GRPCEncoding, hpack.GRPCAcceptEncoding:
			return true
		}
		return f.Kind.Pseudo()
	})
	d.begin(until)
	// The handler has it all from now on.
	c.shard.timers.stop(&c.deadline)
	c.stopAll()
	c.entered, c.picked, c.target, c.kept, c.request = false, false, cluster.Target{}, kept{}, framing{}
	c.down = d
	workers.Go(&c.shard.wg, func() {
		defer d.finish()
		c.at.plane.cfg.Calls.Serve(d, &begun)
	})
}

// begin makes the context of the call, which ends at a time of the shards' clock; 0 means none.
func (d *downstream) begin(until int64) {
	if until == 0 {
		d.ctx, d.cancel = context.WithCancel(context.Background())
	} else {
		d.ctx, d.cancel = context.WithDeadline(context.Background(), began.Add(time.Duration(until)))
	}
	d.until = until
	d.unhook = context.AfterFunc(d.ctx, func() {
		d.shard.lock()
		defer d.shard.unlock()
		d.failLocked(d.ctx.Err())
	})
}

// lastUntil returns how long the client may take to read what is left of its answer; 0 for no bound.
func (d *downstream) lastUntil() int64 {
	at := d.until
	earlier := func(t int64) {
		if at == 0 || t < at {
			at = t
		}
	}
	if d.age > 0 {
		earlier(d.call.began + int64(min(d.age, maxWait)))
	}
	if d.idle > 0 {
		earlier(d.shard.now + int64(min(d.idle, maxWait)))
	}
	return at
}

// finish is called when the handler has returned.
func (d *downstream) finish() {
	d.unhook()
	d.cancel()
	d.shard.lock()
	defer d.shard.unlockSoon()
	c := d.call
	c.down = nil
	d.received.Clear(d.shard.memory)
	switch {
	case !c.client.IsOpen():
		c.end()
	case d.lingers && c.client.Queued() > 0:
		c.linger()
	case c.client.Ended() && c.client.Queued() > 0:
		if at := d.lastUntil(); at != 0 {
			c.shard.timers.set(&c.deadline, at)
		}
	default:
		c.client.Reset(http2.ErrCodeNo) // RFC 9113 §8.1: the rest of the request is not wanted
		c.end()
	}
}

package handler

import (
	"github.com/framegate/framegate/handler/header"
	"github.com/framegate/framegate/handler/leg"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// servePart takes a part of a client's call to its end: a copy for a mirror, or the call of one target of a fan-out. It is a call
// like any other from where its target is known. The observers are not told of it.
func servePart(p *Proxy, l *leg.Leg, target *cluster.Target) {
	forwardPart(new(call).init(p, l), l, target)
}

// serveTarget is servePart for a target of a fan-out, of which the observers are told as of a call. of is the record of the call that
// it is a part of, and name the target's.
func serveTarget(p *Proxy, l *leg.Leg, target *cluster.Target, of *Record, name string) {
	c := newCall(p, l, nil)
	if c.observation != nil {
		c.observation.headersCame(of.Listener, l, l.Metadata(), of.authority)
		c.observation.record.Target = name
		defer c.observeEnd()
		c.observation.record.resolved(target)
	}
	forwardPart(c, l, target)
}

func forwardPart(c *call, l *leg.Leg, target *cluster.Target) {
	c.part, c.opening, c.target = true, l.Opening(), *target
	defer c.leave()
	defer c.recoverPanic()
	md := l.Metadata()
	req := spec.Request{Method: l.Method(), Authority: header.Authority(md), Header: spec.Header(md), Peer: l.RemoteAddr()}
	c.forward(&req, md, nil)
}

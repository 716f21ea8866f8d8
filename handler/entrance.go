package handler

import (
	"strings"
	"sync/atomic"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"

	"github.com/framegate/framegate/handler/downstream"
	"github.com/framegate/framegate/resolver/limit"
	"github.com/framegate/framegate/resolver/spec"
)

// entrance is where the calls of one listener come in, and bounds how many are under way.
type entrance struct {
	listener string
	counted  bool   // by the gate
	own      string // what the methods start with that the gate does not count; "" if it counts all
	calls    limit.Concurrency
	refused  atomic.Int64
}

// enter counts a call and reports true, or false if it is one too many. Each true wants one leave.
func (e *entrance) enter() bool {
	if !e.calls.Acquire() {
		e.refused.Add(1)
		return false
	}
	return true
}

func (e *entrance) leave() { e.calls.Release() }

// gated reports whether the gate has had to enter a call of the valid method, so that whoever handles it does not. It
// enters all but those of framegate's own services, which always answer.
func (e *entrance) gated(method string) bool {
	return e.counted && (e.own == "" || !strings.HasPrefix(method, e.own))
}

// entrance returns that of a listener. It is asked for once a listener, not once a call.
func (p *Proxy) entrance(listener string) *entrance {
	p.entrancesMu.Lock()
	defer p.entrancesMu.Unlock()
	e := p.entrances[listener]
	if e == nil {
		e = &entrance{listener: listener}
		e.calls.SetMax(p.maxCalls[listener])
		p.entrances[listener] = e
	}
	return e
}

// SetMaxCalls changes Config.MaxCalls for listeners that it has an entry of. It may be called at any time: calls under way
// go on. For a listener that had no bound when its Gate was asked for, those over it cost a little more.
func (p *Proxy) SetMaxCalls(most map[string]int) {
	p.entrancesMu.Lock()
	defer p.entrancesMu.Unlock()
	p.maxCalls = most
	for listener, n := range most {
		if e := p.entrances[listener]; e != nil {
			e.calls.SetMax(n)
		}
	}
}

// EntranceStats are the calls of one listener, but for those to framegate's own services.
type EntranceStats struct {
	Calls   int   // under way
	Refused int64 // since the start: there were Config.MaxCalls under way, or max_concurrent_streams on the connection
}

// Entrance returns the counts of a listener.
func (p *Proxy) Entrance(listener string) EntranceStats {
	e := p.entrance(listener)
	return EntranceStats{Calls: e.calls.Active(), Refused: e.refused.Load()}
}

// Gate returns what refuses calls of the listener before they have a goroutine; see transserver.Gate. It refuses those
// whose path names no method, some of which Kitex would answer by itself, and those that come when MaxCalls are under way, or
// on a connection more than HTTP/2 knows of. What it lets in counts from then on, so that calls that come together are not
// more than the bound either. It must be asked for before the listener takes calls, and its Handler must get all that it
// lets in. ownPackage is as for OwnService.
func (p *Proxy) Gate(listener, ownPackage string) func(tr grpc.ServerTransport, s *grpc.Stream, crowded bool) bool {
	e := p.entrance(listener)
	e.counted = e.calls.Bounded()
	if ownPackage != "" {
		e.own = "/" + ownPackage + "."
	}
	return func(tr grpc.ServerTransport, s *grpc.Stream, crowded bool) bool {
		down := downstream.Stream{Transport: tr, Stream: s}
		switch {
		case !spec.ValidMethod(s.Method()):
			p.serve(e, down)
		case crowded && p.structs.Linger(tr):
			e.refused.Add(1)
			endOverloaded(down)
		case !e.gated(s.Method()) || e.enter():
			return false
		default:
			endOverloaded(down)
		}
		return true
	}
}

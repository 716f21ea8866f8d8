package handler

import (
	"strings"
	"sync/atomic"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
)

// entrance is where the calls of one listener come in, and bounds how many are under way.
type entrance struct {
	listener string
	most     int64  // 0 means no bound
	own      string // how the methods begin that the gate lets in uncounted; "" without a gate
	active   atomic.Int64
	refused  atomic.Int64
}

// enter counts a call and reports true, or false if it is one too many. Each true wants one leave.
func (e *entrance) enter() bool {
	if e.active.Add(1) > e.most && e.most > 0 {
		e.active.Add(-1)
		e.refused.Add(1)
		return false
	}
	return true
}

func (e *entrance) leave() { e.active.Add(-1) }

// gated reports whether the gate has had to enter a call of the method, so that whoever handles it does not. It enters all
// but those of framegate's own services, which always answer, and those that Kitex ends without a handler: a method is
// /service/name there, with or without the first slash.
func (e *entrance) gated(method string) bool {
	return e.own != "" && strings.LastIndexByte(method, '/') > 0 && !strings.HasPrefix(method, e.own)
}

// entrance returns that of a listener. It is asked for once a listener, not once a call.
func (p *Proxy) entrance(listener string) *entrance {
	p.entrancesMu.Lock()
	defer p.entrancesMu.Unlock()
	e := p.entrances[listener]
	if e == nil {
		e = &entrance{listener: listener, most: int64(p.maxCalls[listener])}
		p.entrances[listener] = e
	}
	return e
}

// EntranceStats are the calls of one listener, but for those to framegate's own services.
type EntranceStats struct {
	Calls   int64 // under way
	Refused int64 // since the start: there were Config.MaxCalls under way
}

// Entrance returns the counts of a listener.
func (p *Proxy) Entrance(listener string) EntranceStats {
	e := p.entrance(listener)
	return EntranceStats{Calls: e.active.Load(), Refused: e.refused.Load()}
}

// Gate returns what refuses calls of the listener before they have a goroutine, when MaxCalls are under way; see
// transserver.Gate. It is nil if there is no bound. What it lets in counts from then on, so that calls that come together
// are not more than the bound either. It must be asked for before the listener takes calls, and its Handler must get all
// that it lets in.
func (p *Proxy) Gate(listener, ownPackage string) func(tr grpc.ServerTransport, s *grpc.Stream) bool {
	e := p.entrance(listener)
	if e.most == 0 {
		return nil
	}
	e.own = "/" + ownPackage + "."
	return func(tr grpc.ServerTransport, s *grpc.Stream) bool {
		if !e.gated(s.Method()) || e.enter() {
			return false
		}
		serverStream{tr: tr, s: s}.endOverloaded()
		return true
	}
}

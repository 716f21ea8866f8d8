package handler

import (
	"strings"
	"sync/atomic"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
)

// entrance is where the calls of one listener come in, and bounds how many are under way.
type entrance struct {
	listener string
	most     int64 // 0 means no bound
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
// transserver.Gate. It is nil if there is no bound. Calls that come together may all pass: the handler counts them.
func (p *Proxy) Gate(listener, ownPackage string) func(tr grpc.ServerTransport, s *grpc.Stream) bool {
	e := p.entrance(listener)
	if e.most == 0 {
		return nil
	}
	own := "/" + ownPackage + "."
	return func(tr grpc.ServerTransport, s *grpc.Stream) bool {
		if e.active.Load() < e.most || strings.HasPrefix(s.Method(), own) {
			return false
		}
		e.refused.Add(1)
		serverStream{tr: tr, s: s}.endOverloaded()
		return true
	}
}

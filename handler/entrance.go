package handler

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"golang.org/x/net/http2/hpack"

	"github.com/framegate/framegate/handler/header"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/handler/transserver"
	"github.com/framegate/framegate/resolver/limit"
	"github.com/framegate/framegate/resolver/spec"
)

// entrance counts the calls of one listener that are under way, and bounds their number by Config.MaxCalls.
type entrance struct {
	listener string
	gated    bool   // a gate counts calls before they have a goroutine; see Gate
	builtin  string // the prefix of the methods that the gate does not count, those of framegate's builtin services; "" if it counts all
	calls    limit.Concurrency
	refused  atomic.Int64 // calls, since the start
}

// enter counts a call, or reports false if the listener has as many as it may. For each true the caller calls leave once.
func (e *entrance) enter() bool {
	if !e.calls.Acquire() {
		e.refused.Add(1)
		return false
	}
	return true
}

func (e *entrance) leave() { e.calls.Release() }

// enteredByGate reports whether the listener's gate counts calls of the method, which must be valid, so that the handler
// must not count them again. The gate counts all calls but those to framegate's builtin services, which answer even when the
// listener is full.
func (e *entrance) enteredByGate(method string) bool {
	return e.gated && (e.builtin == "" || !strings.HasPrefix(method, e.builtin))
}

// entrance returns the entrance of a listener, and makes it at the first call. It takes a lock: call it once a listener, not
// once a call.
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

// SetMaxCalls replaces Config.MaxCalls; a listener without an entry keeps its bound. It may be called at any time: calls under
// way go on. For a listener that had no bound when Gate was called, the handler refuses the excess instead of the gate, which
// costs a goroutine for each refused call.
func (p *Proxy) SetMaxCalls(maxCalls map[string]int) {
	p.entrancesMu.Lock()
	defer p.entrancesMu.Unlock()
	p.maxCalls = maxCalls
	for listener, n := range maxCalls {
		if e := p.entrances[listener]; e != nil {
			e.calls.SetMax(n)
		}
	}
}

// EntranceStats are the counts of one listener's calls. Calls to framegate's builtin services are not counted.
type EntranceStats struct {
	Calls   int   // under way
	Refused int64 // since the start, because Config.MaxCalls were under way, or max_concurrent_streams on the connection
}

// Entrance returns the counts of a listener.
func (p *Proxy) Entrance(listener string) EntranceStats {
	e := p.entrance(listener)
	return EntranceStats{Calls: e.calls.Active(), Refused: e.refused.Load()}
}

// Gate ends calls of a listener that are not to be served before they have a goroutine:
//
//   - a call whose path names no method, because Kitex would answer some of those itself;
//   - a call that is over MaxCalls;
//   - a call on a connection whose handlers are as many as it may have streams, while struct mode still works on a message
//     of a call that the client has left: for HTTP/2 that call has ended, so the bound on streams does not count it.
//
// The gate counts a call when it lets it in, so that calls that come at the same moment do not exceed the bound either.
type Gate struct {
	proxy    *Proxy
	entrance *entrance
}

// Gate returns the gate of the listener. It must be called before the listener takes calls, and every call that the gate lets
// in must reach the listener's Serve, which takes it out of the count. builtinPackage is the protobuf package of framegate's
// builtin services, whose calls are not counted; "" if there are none.
func (p *Proxy) Gate(listener, builtinPackage string) *Gate {
	e := p.entrance(listener)
	e.gated = e.calls.Bounded()
	if builtinPackage != "" {
		e.builtin = "/" + builtinPackage + "."
	}
	return &Gate{p, e}
}

// Admits reports whether a call is let in. Refuse ends one that is not. conn is stream.Downstream.Conn of the call; crowded
// says that its connection has as many calls whose handlers have not returned as it may have streams.
func (g *Gate) Admits(method string, conn any, crowded bool) bool {
	switch {
	case !spec.ValidMethod(method):
		return false
	case crowded && g.proxy.structMode.Linger(conn):
		g.entrance.refused.Add(1)
		return false
	}
	return !g.entrance.enteredByGate(method) || g.entrance.enter()
}

// Refuse ends a call that is not let in.
func (g *Gate) Refuse(down stream.Downstream) {
	if !spec.ValidMethod(down.Method()) {
		serve(g.proxy, g.entrance, down, nil)
		return
	}
	endOverloaded(down)
}

// Refuse returns the transserver.Refuse of the listener: it answers requests that are not gRPC, which Kitex would reset
// without an answer. The observers are told of them as of calls without a route.
func (p *Proxy) Refuse(listener string) transserver.Refuse {
	return func(r *transserver.Refusal) transserver.Answer {
		e, status := refusalError(r)
		p.observeRefusal(listener, r, e)
		fields := []hpack.HeaderField{{Name: local.ReasonTrailer, Value: string(e.Reason)}}
		if status == http.StatusMethodNotAllowed {
			fields = append(fields, hpack.HeaderField{Name: "allow", Value: http.MethodPost}) // RFC 9110 §15.5.6
		}
		return transserver.Answer{Status: status, Code: int(e.Code), Message: e.Error(), Fields: fields}
	}
}

// observeRefusal tells the observers of a request that was refused.
func (p *Proxy) observeRefusal(listener string, r *transserver.Refusal, e *local.Error) {
	hearing := *p.observers.Load()
	if len(hearing) == 0 {
		return
	}
	fields := spec.Header{}
	o := observation{Observation: Observation{hearing: hearing}}
	rec := &o.record
	*rec = Record{Start: time.Now(), Listener: listener, Code: e.Code, Reason: e.Reason, client: r.Client, fields: fields}
	for _, f := range r.Fields {
		if f.Name == ":path" {
			rec.Method = f.Value
		}
		if !strings.HasPrefix(f.Name, ":") || f.Name == ":authority" {
			fields[f.Name] = append(fields[f.Name], f.Value)
		}
	}
	rec.authority = header.Authority(metadata.MD(fields))
	o.start()
	rec.Duration = time.Since(rec.Start)
	o.end()
}

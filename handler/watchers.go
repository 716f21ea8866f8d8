package handler

import (
	"maps"
	"slices"
	"sync"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/leg"
)

// watchers want to see the answer that a client gets. What goes wrong with them does not concern the call. A nil *watchers is none.
type watchers struct {
	mu  sync.Mutex   // guards the fields below, and orders the calls of their methods: the end may come from another goroutine
	all []leg.Answer // who see what the client gets
	raw []leg.Answer // who see what the endpoint answers, before rules of struct mode change it

	over    bool // the answer has ended, with:
	status  *status.Status
	trailer metadata.MD
}

// add adds one, before the answer begins.
func (w *watchers) add(a leg.Answer, raw bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over: // the call was aborted just now
		a.End(w.status, w.trailer)
	case raw:
		w.raw = append(w.raw, a)
	default:
		w.all = append(w.all, a)
	}
}

// begin shows the headers of the answer.
func (w *watchers) begin(encoding string, md metadata.MD) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range slices.Concat(w.all, w.raw) {
		_ = a.Headers(encoding, maps.Clone(md))
	}
}

// watch makes r, the response direction of the call, show what passes.
func (w *watchers) watch(r *frame.Redirect) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Taker == nil { // nothing is changed
		w.all, w.raw = append(w.all, w.raw...), nil
	}
	if len(w.raw) > 0 {
		r.Taker = showingRaw{r.Taker, w}
	}
	if len(w.all) > 0 {
		r.Dst = showing{r.Dst, w}
	}
}

// showing is a frame.Writer that shows what passes.
type showing struct {
	frame.Writer
	to *watchers
}

// Write implements frame.Writer.
func (s showing) Write(p []byte) error {
	s.to.mu.Lock()
	for _, a := range s.to.all {
		_ = a.Data(p)
	}
	s.to.mu.Unlock()
	return s.Writer.Write(p)
}

// showingRaw is a frame.Taker that shows messages before the one behind it changes them.
type showingRaw struct {
	frame.Taker
	to *watchers
}

// TakeMessage implements frame.Taker.
func (s showingRaw) TakeMessage(flag byte, payload []byte) (out []byte, forward bool, err error) {
	prefix := frame.PrefixOf(frame.Message{Flag: flag, Payload: payload})
	s.to.mu.Lock()
	for _, a := range s.to.raw {
		_ = a.Data(prefix[:])
		_ = a.Data(payload)
	}
	s.to.mu.Unlock()
	return s.Taker.TakeMessage(flag, payload)
}

// end shows the end of the answer, once.
func (w *watchers) end(st *status.Status, trailer metadata.MD) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range slices.Concat(w.all, w.raw) {
		a.End(st, trailer)
	}
	w.all, w.raw, w.over, w.status, w.trailer = nil, nil, true, st, trailer
}

package handler

import (
	"maps"
	"sync"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/leg"
)

// watchers want to see the answer that a client gets. What goes wrong with them does not concern the call. A nil *watchers is none.
type watchers struct {
	mu  sync.Mutex // guards the fields below, and orders the calls of their methods: the end may come from another goroutine
	all []leg.Answer

	over    bool // the answer has ended, with:
	status  *status.Status
	trailer metadata.MD
}

// add adds one, before the answer begins.
func (w *watchers) add(a leg.Answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over { // the call was aborted just now
		a.End(w.status, w.trailer)
		return
	}
	w.all = append(w.all, a)
}

// begin shows the headers of the answer.
func (w *watchers) begin(encoding string, md metadata.MD) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.all {
		_ = a.Headers(encoding, maps.Clone(md))
	}
}

// before returns a writer in front of dst that shows what passes, or dst itself if there are no watchers.
func (w *watchers) before(dst frame.Writer) frame.Writer {
	if w == nil {
		return dst
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.all) == 0 {
		return dst
	}
	return showing{dst, w}
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

// end shows the end of the answer, once.
func (w *watchers) end(st *status.Status, trailer metadata.MD) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.all {
		a.End(st, trailer)
	}
	w.all, w.over, w.status, w.trailer = nil, true, st, trailer
}

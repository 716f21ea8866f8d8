package chaos

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

// Fault is how a Raw treats new streams.
type Fault string

// The faults.
const (
	Polite  Fault = "polite"  // answers as a Backend does
	Refuses Fault = "refuses" // RST_STREAM with REFUSED_STREAM at once
	Resets  Fault = "resets"  // response headers, then RST_STREAM with INTERNAL_ERROR
)

// RawConfig says what else a Raw does, beside its Fault.
type RawConfig struct {
	GoAwayEvery int // a connection gets GOAWAY at its stream of this number, which is the last that it serves; 0 = never

	LimitStreams bool   // announce MaxStreams and refuse further streams
	MaxStreams   uint32 // streams open at a time on a connection
}

// goAwayDelay is the time from the last stream that a connection serves to its GOAWAY. At 100 calls a second to three
// backends some three streams come in this time; GOAWAY tells their client that they were not seen.
const goAwayDelay = 100 * time.Millisecond

// Raw is a backend of raw HTTP/2 frames in the test's process. Its methods may be called from any goroutine.
type Raw struct {
	cfg    RawConfig
	server *testbed.H2Server
	ctx    context.Context // ends with the test

	mu      sync.Mutex // guards all below
	fault   Fault
	seen    Seen
	refused int
	goAways int
	conns   map[*testbed.H2Conn]*rawConn
}

// rawConn is the state of a connection of a Raw. Its fields are guarded by Raw.mu.
type rawConn struct {
	open    int  // streams being served
	begun   int  // streams served so far, and those being served
	leaving bool // its last stream has come; GOAWAY was sent or will be
}

var _ Server = (*Raw)(nil)

// NewRaw starts a Raw that is Polite until Become.
func NewRaw(t testing.TB, cfg RawConfig) *Raw {
	t.Helper()
	r := &Raw{cfg: cfg, ctx: t.Context(), fault: Polite, seen: Seen{}, conns: map[*testbed.H2Conn]*rawConn{}}
	settings := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1 << 20}}
	if cfg.LimitStreams {
		settings = append(settings, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: cfg.MaxStreams})
	}
	r.server = testbed.ServeH2(t, r.admit, testbed.Settings(settings...))
	return r
}

// Address implements Server.
func (r *Raw) Address() string { return r.server.Addr }

// Become changes the fault for streams that are opened from now on.
func (r *Raw) Become(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = f
}

// Seen implements Server. Streams that were refused, or that came after GOAWAY, are not in it.
func (r *Raw) Seen() Seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := Seen{}
	seen.Add(r.seen)
	return seen
}

// Refused returns how many streams were refused.
func (r *Raw) Refused() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused
}

// GoAways returns how many connections got GOAWAY.
func (r *Raw) GoAways() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.goAways
}

// admit decides how a stream is served; nil means not at all. The goroutine that reads the connection calls it, so the
// streams of a connection come in order.
func (r *Raw) admit(st *testbed.H2Stream) (serve func()) {
	e, err := st.Next() // its HEADERS, which are there already
	if err != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.conns[st.Conn()]
	if c == nil {
		c = new(rawConn)
		r.conns[st.Conn()] = c
	}
	if c.leaving { // RFC 9113 §6.8: a stream above GOAWAY's last stream id is ignored
		return nil
	}
	if r.fault == Refuses || (r.cfg.LimitStreams && c.open >= int(r.cfg.MaxStreams)) {
		r.refused++
		_ = st.TryReset(http2.ErrCodeRefusedStream) // if the connection is broken, its reader finds that
		return nil
	}
	if id, err := strconv.ParseUint(e.Fields.Get(IDKey), 10, 64); err == nil {
		r.seen[id]++
	}
	c.open++
	c.begun++
	last := c.begun == r.cfg.GoAwayEvery
	if last {
		c.leaving = true
		r.goAways++
	}
	fault := r.fault
	return func() {
		var saying sync.WaitGroup
		if last {
			saying.Go(func() { r.sayGoAway(st) })
		}
		r.serve(st, e, fault)
		saying.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		c.open--
	}
}

// sayGoAway sends GOAWAY with st as the last stream after goAwayDelay, when there are further streams above it.
func (r *Raw) sayGoAway(st *testbed.H2Stream) {
	if wait(r.ctx, goAwayDelay) == nil {
		_ = st.Conn().Write(func(fr *http2.Framer) error { return fr.WriteGoAway(st.ID, http2.ErrCodeNo, nil) })
	}
}

// serve answers a stream. Errors of writing are ignored, because the connection is broken then.
func (r *Raw) serve(st *testbed.H2Stream, request testbed.Event, fault Fault) {
	if fault == Resets {
		_ = st.TryHeaders(testbed.ResponseFields())
		_ = st.TryReset(http2.ErrCodeInternal)
		return
	}
	if request.Fields.Get(":path") == BidiMethod {
		r.serveBidi(st)
		return
	}
	var body []byte
	for e := request; !e.End; {
		var err error
		if e, err = st.Next(); err != nil || (e.Kind != testbed.GotData && e.Kind != testbed.GotHeaders) {
			return
		}
		body = append(body, e.Data...)
	}
	delay, _ := time.ParseDuration(request.Fields.Get(DelayKey))
	if wait(r.ctx, delay) != nil {
		return
	}
	if st.TryHeaders(testbed.ResponseFields()) == nil && st.TrySend(body) == nil {
		_ = st.TryTrailers(testbed.StatusFields(0, ""))
	}
}

// serveBidi sends every byte of the request back as it comes.
func (r *Raw) serveBidi(st *testbed.H2Stream) {
	if st.TryHeaders(testbed.ResponseFields()) != nil {
		return
	}
	for {
		e, err := st.Next()
		if err != nil || (e.Kind != testbed.GotData && e.Kind != testbed.GotHeaders) || st.TrySend(e.Data) != nil {
			return
		}
		if e.End {
			_ = st.TryTrailers(testbed.StatusFields(0, ""))
			return
		}
	}
}

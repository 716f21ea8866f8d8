package replay

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/framegate/framegate/handler/mirror/tape"
	"github.com/framegate/framegate/resolver/spec"
)

// Config says what is made again, and how.
type Config struct {
	Paths         []string         // files, or directories with files
	Target        string           // host:port or unix:/path
	Speed         float64          // how much faster than it was; 0 means without waiting
	Filter        *spec.Pattern    // of the methods of calls; nil means all
	MaxConcurrent int              // calls under way; those beyond wait in memory, as long as the recording of none that is under way has ended
	Timeout       time.Duration    // how long a call may go on after its recorded end
	Trailers      bool             // trailers are compared, too
	Tell          func(Difference) // is told of each difference as it is found; may be nil
}

// Run makes the recorded calls again, with their timing, until all have ended or ctx ends, and reports what has come of them.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	r := &run{ctx: ctx, cfg: cfg, calls: map[string]*call{}, slots: newSlots(ctx, cfg.MaxConcurrent)}
	r.results.report.Codes, r.results.tell = map[string]int{}, cfg.Tell
	transport := newTransport(cfg.Target)
	defer transport.CloseIdleConnections()
	r.transport = transport
	torn, err := each(cfg.Paths, r.take)
	for _, c := range r.calls { // which the recordings have no end of
		c.cut()
	}
	r.work.Wait()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	report := &r.results.report
	report.Unfinished += len(r.calls) + r.again
	for _, t := range torn {
		report.Torn = append(report.Torn, t.File)
	}
	return report, nil
}

// run is a Run under way.
type run struct {
	ctx       context.Context
	cfg       Config
	transport http.RoundTripper
	results   results
	work      sync.WaitGroup

	// Owned by the goroutine that reads the recordings.
	first time.Time // of the recordings
	began time.Time
	calls map[string]*call // that have begun and not ended, by ID
	again int              // calls without an end of which the ID came again
	slots *slots
}

// take does what an entry says, when its time has come.
func (r *run) take(e *tape.Entry) error {
	switch {
	case e.Call != nil && (r.cfg.Filter == nil || r.cfg.Filter.Match(e.Call.Method)):
		if err := r.await(e.Call.Time); err != nil {
			return err
		}
		if err := r.slots.await(); err != nil {
			return err
		}
		if old := r.calls[e.Call.Call]; old != nil { // such as of a file that is given twice
			r.again++
			old.cut()
			r.slots.complete(old)
		}
		c := newCall(r, e.Call)
		r.calls[e.Call.Call] = c
		r.work.Go(func() {
			if r.slots.enter(c) {
				defer r.slots.leave(c)
				c.make()
			}
		})
	case e.Message != nil && r.calls[e.Message.Call] != nil:
		c := r.calls[e.Message.Call]
		if e.Message.Response {
			c.expect(e.Message)
			return nil
		}
		if err := r.await(e.Message.Time); err != nil {
			return err
		}
		c.send(e.Message)
	case e.HalfClose != nil && r.calls[e.HalfClose.Call] != nil:
		if err := r.await(e.HalfClose.Time); err != nil {
			return err
		}
		r.calls[e.HalfClose.Call].halfClose()
	case e.End != nil && r.calls[e.End.Call] != nil:
		if err := r.await(e.End.Time); err != nil {
			return err
		}
		c := r.calls[e.End.Call]
		c.end(e.End)
		r.slots.complete(c)
		delete(r.calls, e.End.Call)
	}
	return nil
}

// longest is the longest wait, in nanoseconds: a slow replay of a long recording would take longer than a time.Duration can be.
const longest = float64(100 * 365 * 24 * time.Hour)

// await waits for the time of an entry.
func (r *run) await(nanoseconds int64) error {
	at := time.Unix(0, nanoseconds)
	if r.first.IsZero() {
		r.first, r.began = at, time.Now()
	}
	if r.cfg.Speed == 0 {
		return r.ctx.Err()
	}
	after := min(float64(at.Sub(r.first))/r.cfg.Speed, longest)
	wait := time.Until(r.began.Add(time.Duration(after)))
	if wait <= 0 {
		return r.ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

// newTransport returns a transport of cleartext HTTP/2 to an address.
func newTransport(target string) *http.Transport {
	network, address := "tcp", target
	if path, ok := strings.CutPrefix(target, spec.UnixPrefix); ok {
		network, address = "unix", path
	}
	t := &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
		Protocols: new(http.Protocols),
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

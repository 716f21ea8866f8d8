package load

import (
	"context"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
)

// unavailablePause keeps a worker from spinning on an address that refuses connections.
const unavailablePause = 10 * time.Millisecond

// worker makes one call after another for one slice.
type worker struct {
	caller   caller
	recorder *recorder
	dialer   *dialer
	window   window
	paced    *pacer // nil = begin a call when the last one has ended
}

// loop makes calls until slice ends. run is the whole run's context: when it has ended, a call that fails was interrupted, and is
// not an error of the address under load.
func (w *worker) loop(slice, run context.Context) {
	// A context that cannot be cancelled spares each unary call a goroutine in Kitex; the dialer ends what is stuck.
	calls := context.WithoutCancel(slice)
	defer w.caller.finish()
	for {
		begun, ok := w.next(slice)
		if !ok {
			return
		}
		carried, err := w.caller.call(calls)
		ended := time.Now()
		if err == nil {
			w.recorder.succeed(w.window, begun, ended, carried)
			continue
		}
		if run.Err() != nil {
			return
		}
		code := codeOf(err)
		if w.dialer.hungUp() {
			code, err = codeName(codes.DeadlineExceeded), errNoAnswer
		}
		w.recorder.fail(w.window, begun, ended, code, err)
		if w.paced == nil && code == codeName(codes.Unavailable) {
			pause(slice, unavailablePause)
		}
	}
}

// next waits until the next call is to begin and returns the time that its latency counts from: now, or at a constant rate the time
// that the call was due, so that a call kept waiting by slow ones before it shows it. ok is false when the slice is over.
func (w *worker) next(slice context.Context) (begun time.Time, ok bool) {
	if w.paced != nil {
		begun, ok = <-w.paced.due
		return begun, ok
	}
	// Reading the clock comes first, because it tells the end of the slice more exactly than the context does.
	begun = time.Now()
	return begun, begun.Before(w.window.close) && slice.Err() == nil
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

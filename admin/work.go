package admin

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Bounds on what all requests together take of this process. A request over a bound waits up to workWait for its turn. A
// document of 1 MiB may need some 200 MiB while it is parsed, and a list of many routes needs several times the bytes of its
// answer while it is made.
const (
	maxReading = 32 << 20 // bytes of bodies that are read
	maxParsing = 1 << 20  // bytes of documents that are parsed: one of the largest
	maxAnswers = 4        // large answers that are being made, and conditions of taps that are being compiled
	maxSending = 64 << 20 // bytes of large answers that clients have not taken yet
	workWait   = 10 * time.Second
)

// work has a semaphore for each of the bounds. Its methods, here and in document.go, keep to them.
type work struct {
	reading, parsing, answers, sending *semaphore.Weighted
}

func newWork() *work {
	return &work{
		reading: semaphore.NewWeighted(maxReading), parsing: semaphore.NewWeighted(maxParsing),
		answers: semaphore.NewWeighted(maxAnswers), sending: semaphore.NewWeighted(maxSending),
	}
}

// take waits until n units of a semaphore are free and takes them. The caller calls giveBack once.
func take(ctx context.Context, of *semaphore.Weighted, n int64) (giveBack func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, workWait)
	defer cancel()
	if err := of.Acquire(ctx, n); err != nil {
		return nil, &problem{status: http.StatusServiceUnavailable, Reason: reasonTooMany, Message: fmt.Sprintf("no turn within %s beside other requests, want fewer at once", workWait), cause: err}
	}
	return func() { of.Release(n) }, nil
}

// large wraps a handle whose answer grows with the routes, services or endpoints: at most maxAnswers of them are made at
// once, and at most maxSending bytes wait for slow clients.
func (wk *work) large(h handle) handle {
	return func(w http.ResponseWriter, r *http.Request) error {
		giveBack, err := take(r.Context(), wk.answers, 1)
		if err != nil {
			return err
		}
		made := sync.OnceFunc(giveBack)
		defer made()
		b := &buffer{ResponseWriter: w, status: http.StatusOK}
		if err := h(b, r); err != nil {
			return err
		}
		sent, err := take(r.Context(), wk.sending, min(int64(b.body.Len()), maxSending))
		if err != nil {
			return err
		}
		defer sent()
		made()
		w.WriteHeader(b.status)
		_, _ = w.Write(b.body.Bytes()) // its error: the client has gone
		return nil
	}
}

// buffer is a ResponseWriter that keeps the answer until it is complete.
type buffer struct {
	http.ResponseWriter // for its headers
	status              int
	body                bytes.Buffer
}

func (b *buffer) WriteHeader(status int) { b.status = status }

func (b *buffer) Write(p []byte) (int, error) { return b.body.Write(p) }

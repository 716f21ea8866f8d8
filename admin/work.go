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

// What requests may take of this process together; one more waits for its turn for up to workWait. A document of 1 MiB
// may need some 200 MiB while it is parsed, and a list of many routes is several times its answer while it is made.
const (
	maxReading = 32 << 20 // bytes of bodies that are read
	maxParsing = 1 << 20  // bytes of documents that are parsed: one of the largest
	maxAnswers = 4        // answers that grow with what is in force, and conditions of taps, while they are made
	maxSending = 64 << 20 // bytes of such answers that clients have not taken yet
	workWait   = 10 * time.Second
)

// work bounds what requests take.
type work struct {
	reading, parsing, answers, sending *semaphore.Weighted
}

func newWork() *work {
	return &work{
		reading: semaphore.NewWeighted(maxReading), parsing: semaphore.NewWeighted(maxParsing),
		answers: semaphore.NewWeighted(maxAnswers), sending: semaphore.NewWeighted(maxSending),
	}
}

// take waits until n of a budget are free, and returns what gives them back, once.
func take(ctx context.Context, of *semaphore.Weighted, n int64) (giveBack func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, workWait)
	defer cancel()
	if err := of.Acquire(ctx, n); err != nil {
		return nil, &problem{status: http.StatusServiceUnavailable, Reason: reasonTooMany, Message: fmt.Sprintf("no turn within %s beside other requests, want fewer at once", workWait), cause: err}
	}
	return func() { of.Release(n) }, nil
}

// large returns a handle for an answer that grows with what is in force: few are made at once, and what waits for slow
// clients has a bound.
func (s *Server) large(h handle) handle {
	return func(w http.ResponseWriter, r *http.Request) error {
		giveBack, err := take(r.Context(), s.work.answers, 1)
		if err != nil {
			return err
		}
		made := sync.OnceFunc(giveBack)
		defer made()
		b := &buffer{ResponseWriter: w, status: http.StatusOK}
		if err := h(b, r); err != nil {
			return err
		}
		sent, err := take(r.Context(), s.work.sending, min(int64(b.body.Len()), maxSending))
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

// buffer keeps an answer until it is whole.
type buffer struct {
	http.ResponseWriter // for its headers
	status              int
	body                bytes.Buffer
}

func (b *buffer) WriteHeader(status int) { b.status = status }

func (b *buffer) Write(p []byte) (int, error) { return b.body.Write(p) }

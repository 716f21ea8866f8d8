package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/framegate/framegate/resolver/spec"
)

const (
	// elasticLinger is how long a message waits for others that are sent with it.
	elasticLinger = 200 * time.Millisecond
	// maxBulkBytes bounds a request, unless a single record is larger.
	maxBulkBytes = 1 << 20
	// bulkTimeout bounds a request with its response.
	bulkTimeout = 30 * time.Second
)

// elastic is a Sink that indexes documents.
//
// One goroutine (run) takes a batch from the queue, makes records of it, sends them (bulk.go), and gives back into the queue
// what has to be sent again.
//
// Each record has an _id, which it keeps when it is sent again: a record that came into the index although framegate was not
// told so is not indexed twice.
type elastic struct {
	queue *queue
	state *state
	bulk  *bulk

	// Owned by run:
	encode *encoder
	ids    idMaker
	batch  []*item
	limit  int // of records in a batch: less than usual after the server found a request too large, or wrong
	pauses backoff

	ctx  context.Context // ends when nothing is to be tried any more
	stop context.CancelFunc
	give context.CancelFunc // ends connect
	done chan struct{}      // closed when run has ended
}

// NewElasticsearch returns a sink for a valid doc. It begins to connect, but needs no server: an error says that the client
// cannot be configured so.
func NewElasticsearch(doc *spec.Elasticsearch, cfg Config) (Sink, error) {
	s, err := newElastic(doc, cfg, bulkTimeout)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func newElastic(doc *spec.Elasticsearch, cfg Config, timeout time.Duration) (*elastic, error) {
	q := newQueue(cfg.Queue)
	b, err := newBulk(doc, min(q.window, maxBulkBytes), timeout)
	if err != nil {
		return nil, err
	}
	s := &elastic{
		queue: q, state: newState(cfg, "elasticsearch"), bulk: b,
		encode: newEncoder(doc.Redact), ids: newIDMaker(), limit: maxBatch,
		done: make(chan struct{}),
	}
	s.encode.timestamp = true
	s.ctx, s.stop = context.WithCancel(context.Background())
	first, give := context.WithCancel(s.ctx)
	s.give = give
	go s.run(first, doc.URLs)
	return s, nil
}

// Offer implements Sink.
func (s *elastic) Offer(e *Event) bool { return s.queue.offer(e) }

// Stats implements Sink.
func (s *elastic) Stats() Stats {
	st := s.queue.snapshot()
	st.State, st.Error = s.state.get()
	return st
}

// Close implements Sink.
func (s *elastic) Close(ctx context.Context) {
	s.queue.close()
	s.give()
	select {
	case <-s.done:
	case <-ctx.Done():
		s.stop()
		<-s.done
	}
}

// run delivers until the queue is closed and empty, or ctx ends. first ends when the sink is closed.
func (s *elastic) run(first context.Context, urls []string) {
	defer close(s.done)
	defer s.stop()
	s.connect(first, urls)
	for s.queue.gather(s.ctx, elasticLinger) {
		s.fill()
		again := s.settle(s.bulk.send(s.ctx))
		s.batch = s.batch[:0]
		if again {
			sleep(s.ctx, s.pauses.next())
		}
	}
	s.bulk.close()
	s.queue.dropReady()
}

// connect makes a connection to each URL until one succeeds, or there is something to deliver, which then shows the same.
func (s *elastic) connect(ctx context.Context, urls []string) {
	for {
		err := s.reach(ctx, urls)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			s.state.ok(connecting)
			break
		}
		s.state.failed(connecting, err)
		t := time.NewTimer(s.pauses.next())
		select {
		case <-t.C:
			continue
		case <-s.queue.some:
		case <-ctx.Done():
		}
		t.Stop()
		signal(s.queue.some) // for gather
		break
	}
	s.pauses.reset()
}

// reach makes a connection to the first URL that takes one. It sends no request: which ones a key allows is not known.
func (s *elastic) reach(ctx context.Context, urls []string) (err error) {
	for _, text := range urls {
		var conn net.Conn
		if conn, err = s.bulk.dial(ctx, text); err == nil {
			_ = conn.Close()
			return s.bulk.checkKey()
		}
	}
	return err
}

// fill makes records of what is in the queue, up to the size of a request.
func (s *elastic) fill() {
	s.bulk.reset()
	for len(s.batch) < s.limit {
		it := s.queue.take()
		if it == nil {
			return
		}
		s.bulk.scratch = s.encode.append(s.bulk.scratch[:0], it.event)
		if !s.bulk.add(s.ids.id(it.number)) {
			s.queue.giveBackFirst([]*item{it})
			return
		}
		s.batch = append(s.batch, it)
	}
}

// settle settles the batch. It reports whether some of it has to be sent again, after a pause.
func (s *elastic) settle(answers []answer, err error) (again bool) {
	if err != nil {
		return s.settleWhole(err)
	}
	s.limit = min(2*s.limit, maxBatch)
	var temporary error
	progress := false
	for i, it := range s.batch {
		a := answers[i]
		switch {
		case a.taken():
			s.queue.deliver(it)
			progress = true
		case a.temporary():
			temporary = a
			if a.status == http.StatusInternalServerError && s.queue.blame(it) {
				s.state.refuses(ReasonFailed, a)
				s.queue.drop(it, ReasonFailed)
				continue
			}
			s.queue.giveBack(it)
			again = true
		default:
			s.state.refuses(ReasonRejected, a)
			s.queue.drop(it, ReasonRejected)
			progress = true
		}
	}
	if progress || temporary == nil {
		s.state.ok(delivering)
		s.pauses.reset() // what has to wait does not hold up the rest for long
	} else {
		s.state.failed(delivering, temporary)
	}
	return again
}

// settleWhole settles a batch that the server did not answer record by record.
func (s *elastic) settleWhole(err error) (again bool) {
	if s.ctx.Err() != nil { // the sink was closed: err says only that
		s.queue.giveBackFirst(s.batch)
		return false
	}
	s.state.failed(delivering, err)
	var status *statusError
	if !errors.As(err, &status) || status.code != http.StatusBadRequest && status.code != http.StatusRequestEntityTooLarge {
		s.queue.giveBackFirst(s.batch)
		return true
	}
	if len(s.batch) > 1 { // to deliver all but the record that is the cause
		s.limit = (len(s.batch) + 1) / 2
		s.queue.giveBackFirst(s.batch)
		return false
	}
	reason := ReasonRejected
	if status.code == http.StatusRequestEntityTooLarge {
		reason = ReasonTooLarge
	}
	s.state.refuses(reason, err)
	s.queue.drop(s.batch[0], reason)
	s.limit = 2
	return true
}

// answer is what the server says of a record.
type answer struct {
	status       int
	kind, reason string // of the error, if there is one
}

// Error implements error.
func (a answer) Error() string { return fmt.Sprintf("status %d: %s: %s", a.status, a.kind, a.reason) }

// taken reports whether the server has the record. A conflict says that it has it already.
func (a answer) taken() bool { return a.status/100 == 2 || a.status == http.StatusConflict }

// temporary reports whether the record is to be sent again.
func (a answer) temporary() bool { return a.status/100 != 4 || mayPass(a.status) }

// mayPass reports whether a status from 400 to 499 is one that the same record may not get later: it is about the index, which
// may be made, about who framegate is, or about load. A full disk is 403 or 429.
func mayPass(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	}
	return false
}

// addressOf returns host:port of a URL.
func addressOf(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

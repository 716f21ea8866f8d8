package sink

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	watchInterval = time.Second
	probeTimeout  = 3 * time.Second // of a broker
	// stallTimeout is how long nothing may be delivered, while something waits, until that is a failure.
	stallTimeout = 3 * time.Second
)

// watch finds out whether the brokers can be reached and know the topic. The client does not say: it tries again, without end.
// So watch asks for the topic's metadata by itself: when it begins, until that succeeds, and when nothing is delivered.
//
// It is a hook of the client, to ask at once when a connection fails, and its logger, to know the last error.
type watch struct {
	queue *queue
	state *state
	topic string
	kick  chan struct{} // has a token if a connection failed

	mu      sync.Mutex // guards what follows
	last    time.Time  // something was delivered
	err     error      // of the client, since
	connect error      // of the last connection that failed
}

var (
	_ kgo.HookBrokerConnect = (*watch)(nil)
	_ kgo.Logger            = (*watch)(nil)
)

func newWatch(q *queue, s *state, topic string) *watch {
	return &watch{queue: q, state: s, topic: topic, kick: make(chan struct{}, 1)}
}

// run asks until ctx ends, by the client of the time.
func (w *watch) run(ctx context.Context, client func() *kgo.Client) {
	var pauses backoff
	for ctx.Err() == nil {
		if err := w.probe(ctx, client()); err == nil {
			w.state.ok(connecting)
			pauses.reset()
			w.idle(ctx)
		} else if ctx.Err() == nil {
			w.state.failed(connecting, err)
			sleep(ctx, pauses.next())
		}
	}
}

// idle blocks until there is a reason to ask again. What does not get on although the topic is there is a failure to deliver.
func (w *watch) idle(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.kick:
			return
		case <-tick.C:
			if stalled, err := w.stalled(); stalled {
				w.state.failed(delivering, err)
				return
			}
		}
	}
}

// stalled reports whether something waits and nothing was delivered for stallTimeout, and why.
func (w *watch) stalled() (bool, error) {
	lag := w.queue.snapshot().Lag
	w.mu.Lock()
	defer w.mu.Unlock()
	if lag < stallTimeout || time.Since(w.last) < stallTimeout {
		return false, nil
	}
	if w.err != nil {
		return true, fmt.Errorf("nothing delivered for %s: %w", stallTimeout, w.err)
	}
	return true, fmt.Errorf("nothing delivered for %s", stallTimeout)
}

// delivered says that a record was.
func (w *watch) delivered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last, w.err = time.Now(), nil
}

// probe asks the brokers for the topic, one after the other until one answers.
func (w *watch) probe(ctx context.Context, client *kgo.Client) (err error) {
	for _, b := range append(client.DiscoveredBrokers(), client.SeedBrokers()...) {
		for range 2 { // the first may find that a connection has ended meanwhile
			var resp *kmsg.MetadataResponse
			w.connectError()
			if resp, err = w.ask(ctx, b); err == nil {
				return w.verdict(resp)
			}
			if c := w.connectError(); c != nil {
				err = c // says more: err may be no more than EOF
			}
		}
	}
	return err // of a broker that is configured: these are the last
}

// ask asks a broker for the topic. It does not try again, as requests of the client do until all they say is that it took too
// long.
func (w *watch) ask(ctx context.Context, b *kgo.Broker) (*kmsg.MetadataResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	topic, req := kmsg.NewMetadataRequestTopic(), kmsg.NewPtrMetadataRequest()
	topic.Topic = &w.topic
	req.Topics = []kmsg.MetadataRequestTopic{topic}
	req.AllowAutoTopicCreation = false
	resp, err := b.Request(ctx, req)
	if err != nil {
		return nil, err
	}
	return resp.(*kmsg.MetadataResponse), nil
}

// verdict returns what is wrong with the topic.
func (w *watch) verdict(resp *kmsg.MetadataResponse) error {
	if len(resp.Topics) != 1 {
		return fmt.Errorf("the broker knows %d topics, want 1", len(resp.Topics))
	}
	t := resp.Topics[0]
	if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
		return fmt.Errorf("topic %s: %w", w.topic, err)
	}
	for _, p := range t.Partitions {
		if p.ErrorCode == 0 {
			return nil
		}
	}
	return fmt.Errorf("topic %s: no partition has a leader", w.topic)
}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (w *watch) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	w.connect = fmt.Errorf("connection to %s: %w", net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port))), err)
	w.mu.Unlock()
	signal(w.kick)
}

// connectError forgets and returns why a connection failed last, nil if none has since the last call.
func (w *watch) connectError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.connect
	w.connect = nil
	return err
}

// Level implements kgo.Logger.
func (w *watch) Level() kgo.LogLevel { return kgo.LogLevelInfo }

// Log implements kgo.Logger: it keeps errors.
func (w *watch) Log(_ kgo.LogLevel, _ string, keyvals ...any) {
	for i := 0; i+1 < len(keyvals); i += 2 {
		if err, ok := keyvals[i+1].(error); ok && err != nil && keyvals[i] == "err" {
			w.mu.Lock()
			w.err = err
			w.mu.Unlock()
		}
	}
}

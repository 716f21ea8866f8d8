package health

import (
	"context"
	"io"
	"log/slog"
	"sync"
)

// Checker checks the addresses that have subscribers. Each target, which is an address with a Config, has a goroutine, and
// with TypeGRPC a connection.
type Checker struct {
	log       *slog.Logger
	newProber func(address string, cfg Config) prober // replaced in tests
	ctx       context.Context                         // ends with Close
	cancel    context.CancelFunc
	wg        sync.WaitGroup // of every goroutine

	mu      sync.Mutex // guards what follows
	closed  bool
	targets map[targetKey]*target
}

// targetKey tells one target from another. Its Config has its defaults.
type targetKey struct {
	address string
	cfg     Config
}

// NewChecker returns a Checker without subscribers. It logs each change of state; log may be nil. The caller closes the
// Checker.
func NewChecker(log *slog.Logger) *Checker {
	if log == nil {
		log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	c := &Checker{log: log, newProber: newProber, targets: map[targetKey]*target{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Subscribe checks an address, host:port or unix:/path, from now on until stop is called; cfg is one that Validate accepts.
// Subscribers to one address with one Config share its checks. To replace a subscription, with other settings say, call
// Subscribe before the stop of the old one: what is known of a target is forgotten with its last subscriber.
//
// An endpoint begins healthy. Its first check is made within half a second, or later if there are many, and decides
// alone; after that Rise and Fall count. changed is called with the first result, and then for each change of
// Status.Healthy; if there is a result already, it is called with that. It is called by one goroutine at a time; the checks
// of the target wait for it, and it must not call Close or wait for somebody who does.
//
// stop may be called more than once, by anybody, also by changed. It waits for nothing, so a call of changed may still be
// under way. After Close, Subscribe does nothing.
func (c *Checker) Subscribe(address string, cfg Config, changed func(Status)) (stop func()) {
	key := targetKey{address: address, cfg: cfg.withDefaults()}
	sub := &subscriber{changed: changed}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return func() {}
	}
	t := c.targets[key]
	if t == nil {
		t = newTarget(c, key, len(c.targets))
		c.targets[key] = t
		c.wg.Go(t.run)
	}
	if t.join(sub) != unknown {
		c.wg.Go(t.deliver)
	}
	return func() { c.leave(t, sub) }
}

// Status returns what the checks of an address with a Config have shown so far, or false if it has no subscriber.
func (c *Checker) Status(address string, cfg Config) (Status, bool) {
	c.mu.Lock()
	t := c.targets[targetKey{address: address, cfg: cfg.withDefaults()}]
	c.mu.Unlock()
	if t == nil {
		return Status{}, false
	}
	return t.status(), true
}

// leave removes a subscriber, and ends the target if it was the last.
func (c *Checker) leave(t *target, sub *subscriber) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sub.stopped.Store(true)
	if t.part(sub) > 0 {
		return
	}
	t.cancel()
	if c.targets[t.key] == t { // else stop was called again, and a newer target has taken its place
		delete(c.targets, t.key)
	}
}

// Close ends all checks and waits for them and for calls of changed, so the caller must hold no lock that changed takes. It
// may be called more than once.
func (c *Checker) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
}

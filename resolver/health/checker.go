package health

import (
	"context"
	"io"
	"log/slog"
	"sync"
)

// Checker checks the addresses that somebody watches. Each has a goroutine, and with TypeGRPC a connection.
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

// targetKey tells what is checked separately. Its Config has its defaults.
type targetKey struct {
	address string
	cfg     Config
}

// NewChecker returns a Checker that checks nothing yet. It tells log, which may be nil, of each change of state.
func NewChecker(log *slog.Logger) *Checker {
	if log == nil {
		log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	c := &Checker{log: log, newProber: newProber, targets: map[targetKey]*target{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Watch checks the address, host:port or unix:/path, from now on until stop; cfg is one that Validate accepts. An
// address that several watch with one Config is checked once. To go over to other settings, or to watch anew for another
// reason, call Watch first and stop after: what is known of an address is forgotten with its last watcher.
//
// An endpoint begins healthy. Its first check is made within half a second, or later if there are many, and decides
// alone; after that Rise and Fall count. changed is called with the first result, and then for each change of
// Status.Healthy; if the result is known already, it is called with that. It is called by one goroutine at a time, holds
// up the checks of the address, and must not call Close or wait for somebody who does.
//
// stop may be called more than once, by anybody, also from changed. It waits for nothing: a call of changed that has
// begun goes on. After Close, Watch does nothing.
func (c *Checker) Watch(address string, cfg Config, changed func(Status)) (stop func()) {
	key := targetKey{address: address, cfg: cfg.withDefaults()}
	w := &watcher{changed: changed}
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
	if t.join(w) != unknown {
		c.wg.Go(t.deliver)
	}
	return func() { c.leave(t, w) }
}

// Status returns what the checks of an address with a Config have shown so far, or false if nobody watches it so.
func (c *Checker) Status(address string, cfg Config) (Status, bool) {
	c.mu.Lock()
	t := c.targets[targetKey{address: address, cfg: cfg.withDefaults()}]
	c.mu.Unlock()
	if t == nil {
		return Status{}, false
	}
	return t.status(), true
}

// leave ends a watcher, and its target with the last.
func (c *Checker) leave(t *target, w *watcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.stopped.Store(true)
	if t.part(w) > 0 {
		return
	}
	t.cancel()
	if c.targets[t.key] == t { // another may have taken its place, if stop is called again
		delete(c.targets, t.key)
	}
}

// Close ends all checks and waits until nothing of them is left, also calls of changed: hold no lock that one takes. It
// may be called more than once.
func (c *Checker) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
}

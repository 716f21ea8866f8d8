package dns

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Names looks up the host names that somebody watches. Each has a goroutine.
type Names struct {
	// set once
	resolver *net.Resolver
	routable func(netip.Addr) bool // replaced in tests
	log      *slog.Logger
	turns    turns
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	wg       sync.WaitGroup // of every goroutine

	answered, absent, failed atomic.Uint64

	mu     sync.Mutex // guards what follows
	closed bool
	names  map[string]*name
}

// MaxAddresses is how many addresses of a name count: those that sort first.
const MaxAddresses = 1000

// New returns Names that watch nothing yet. r looks them up: with the search domains and the hosts file of the system,
// unless it was made otherwise; nil is net.DefaultResolver. log hears of names that cannot be looked up.
func New(r *net.Resolver, log *slog.Logger) *Names {
	if r == nil {
		r = net.DefaultResolver
	}
	n := &Names{
		// Strict: without an answer for one family, the other alone is not taken for all.
		resolver: &net.Resolver{PreferGo: r.PreferGo, StrictErrors: true, Dial: r.Dial}, routable: hasRoute, log: log,
		turns: newTurns(), names: map[string]*name{},
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

// Answer is what is known of a name.
type Answer struct {
	Addresses []netip.Addr // sorted, each once, at most MostAddresses; of the last good look-up. Nobody changes them
	Omitted   int          // how many more the name has
	Err       error        // why the last look-up failed; nil if it did not, or there was none
	Asked     bool         // there was a look-up
}

// Watch follows a host name, in lower case, until stop: it is looked up now, and again within each refresh; of several who
// watch one name the shortest refresh counts. changed is called, by one goroutine at a time, whenever the Answer is
// another, and must not call Close or wait for somebody who does. It holds up the look-ups of the name. After stop, a call
// of changed that has begun goes on; stop waits for nothing and may be called more than once. After Close, Watch does
// nothing.
func (n *Names) Watch(host string, refresh time.Duration, changed func()) (stop func()) {
	w := &watcher{refresh: refresh, changed: changed}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return func() {}
	}
	at := n.names[host]
	if at == nil {
		at = newName(n, host)
		n.names[host] = at
		at.join(w)
		n.wg.Go(at.run)
	} else {
		at.join(w)
	}
	return func() { n.leave(at, w) }
}

// Known returns what is known of a name; nothing if nobody watches it.
func (n *Names) Known(host string) Answer {
	n.mu.Lock()
	at := n.names[host]
	n.mu.Unlock()
	if at == nil {
		return Answer{}
	}
	return at.answer()
}

// Await has names looked up, and returns when all were, or after the time most. What is known of them is kept until
// release.
func (n *Names) Await(hosts []string, most time.Duration) (release func()) {
	ctx, cancel := context.WithTimeout(n.ctx, most)
	defer cancel()
	var stops []func()
	for _, host := range hosts {
		stops = append(stops, n.Watch(host, maxRefresh, func() {}))
	}
	for _, host := range hosts {
		n.mu.Lock()
		at := n.names[host]
		n.mu.Unlock()
		if at == nil {
			break // closed
		}
		select {
		case <-at.asked:
		case <-ctx.Done():
		}
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// Counts returns how many look-ups gave addresses, how many said that the name has none, and how many failed.
func (n *Names) Counts() (answered, absent, failed uint64) {
	return n.answered.Load(), n.absent.Load(), n.failed.Load()
}

// leave ends a watcher, and its name with the last.
func (n *Names) leave(at *name, w *watcher) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w.stopped.Store(true)
	if at.part(w) > 0 {
		return
	}
	at.cancel()
	if n.names[at.host] == at { // another may have taken its place, if stop is called again
		delete(n.names, at.host)
	}
}

// Close ends all look-ups and waits until nothing of them is left, also calls of changed: hold no lock that one takes. It
// may be called more than once.
func (n *Names) Close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.cancel()
	n.wg.Wait()
}

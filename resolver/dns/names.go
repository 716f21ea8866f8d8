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

// Names looks up the host names that have subscribers. Each name has a goroutine.
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

// MaxAddresses is how many addresses of a name are used: the ones that sort first.
const MaxAddresses = 1000

// New returns Names without subscribers. r looks the names up, as a rule with the system's search domains and hosts file; nil
// is net.DefaultResolver. It is logged when a name cannot be looked up. The caller closes the Names.
func New(r *net.Resolver, log *slog.Logger) *Names {
	if r == nil {
		r = net.DefaultResolver
	}
	n := &Names{
		// Strict: a look-up fails if servers answer for one family only, or the other's addresses would seem to be gone.
		resolver: &net.Resolver{PreferGo: r.PreferGo, StrictErrors: true, Dial: r.Dial}, routable: hasRoute, log: log,
		turns: newTurns(), names: map[string]*name{},
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

// Answer is what is known of a name.
type Answer struct {
	Addresses []netip.Addr // of the last good look-up; sorted, each once, at most MaxAddresses. Nobody changes them
	Omitted   int          // how many more the name has
	Err       error        // why the last look-up failed; nil if it did not, or there was none
	Asked     bool         // there was a look-up
}

// Subscribe follows a host name, in lower case, until stop is called. The name is looked up now, and again within each
// refresh; of several subscribers to one name the shortest refresh counts. changed is called whenever the Answer of Known
// changes, by one goroutine at a time. The look-ups of the name wait for it, and it must not call Close or wait for
// somebody who does. stop waits for nothing, so a call of changed may still be under way; it may be called more than once.
// After Close, Subscribe does nothing.
func (n *Names) Subscribe(host string, refresh time.Duration, changed func()) (stop func()) {
	sub := &subscriber{refresh: refresh, changed: changed}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return func() {}
	}
	at := n.names[host]
	if at == nil {
		at = newName(n, host)
		n.names[host] = at
		at.join(sub)
		n.wg.Go(at.run)
	} else {
		at.join(sub)
	}
	return func() { n.leave(at, sub) }
}

// Known returns what is known of a name; the zero Answer if it has no subscriber.
func (n *Names) Known(host string) Answer {
	n.mu.Lock()
	at := n.names[host]
	n.mu.Unlock()
	if at == nil {
		return Answer{}
	}
	return at.answer()
}

// Await has names looked up, and returns when all were, or after maxWait. Their Answers are kept until the caller calls
// release, which it may do more than once.
func (n *Names) Await(hosts []string, maxWait time.Duration) (release func()) {
	ctx, cancel := context.WithTimeout(n.ctx, maxWait)
	defer cancel()
	var stops []func()
	for _, host := range hosts {
		stops = append(stops, n.Subscribe(host, maxRefresh, func() {}))
	}
	for _, host := range hosts {
		n.mu.Lock()
		at := n.names[host]
		n.mu.Unlock()
		if at == nil {
			break // the Names are closed
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

// leave removes a subscriber, and ends the name if it was the last.
func (n *Names) leave(at *name, sub *subscriber) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sub.stopped.Store(true)
	if at.part(sub) > 0 {
		return
	}
	at.cancel()
	if n.names[at.host] == at { // else stop was called again, and a newer name has taken its place
		delete(n.names, at.host)
	}
}

// Close ends all look-ups and waits for them and for calls of changed, so the caller must hold no lock that changed takes. It
// may be called more than once.
func (n *Names) Close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.cancel()
	n.wg.Wait()
}

package gateway

import (
	"sync"
	"time"

	"github.com/framegate/framegate/admin"
)

// drainSwitch tells whether the gateway drains. It is turned on once and never off.
type drainSwitch struct {
	on chan struct{} // closed by turnOn

	mu    sync.Mutex // guards since, and the closing of on
	since time.Time  // when it was turned on; zero before
}

// turnOn turns the switch on, and reports whether it was off before.
func (d *drainSwitch) turnOn() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.since.IsZero() {
		return false
	}
	d.since = time.Now()
	close(d.on)
	return true
}

// Drain makes the gateway not ready and closes the channel Draining, on which the caller of Start calls Shutdown. It returns
// at once and may be called more than once.
func (g *Gateway) Drain() {
	if g.draining.turnOn() {
		g.health.stop()
		g.log.Info("draining", "delay", g.conf().Drain.Delay, "timeout", g.conf().Drain.Timeout)
	}
}

// Draining returns a channel that is closed when the gateway is asked to drain, through the admin server or by Drain.
func (g *Gateway) Draining() <-chan struct{} { return g.draining.on }

func (g *Gateway) isDraining() bool {
	select {
	case <-g.draining.on:
		return true
	default:
		return false
	}
}

// drainStatus is the admin server's Control.Drain: it starts the drain and returns its progress.
func (g *Gateway) drainStatus() admin.DrainStatus {
	g.Drain()
	st := admin.DrainStatus{Delay: g.conf().Drain.Delay, Timeout: g.conf().Drain.Timeout}
	g.draining.mu.Lock()
	st.Since = g.draining.since
	g.draining.mu.Unlock()
	for _, l := range g.listeners() {
		st.Connections += l.Connections
		st.Calls += l.Calls
	}
	return st
}

// listeners returns the connections and calls of each listener, accepted and refused.
func (g *Gateway) listeners() []admin.ListenerStats {
	all := make([]admin.ListenerStats, len(g.servers))
	for i, s := range g.servers {
		conns, calls := s.conns.Stats(), g.proxy.Entrance(s.name)
		all[i] = admin.ListenerStats{
			Name: s.name, Connections: conns.Connections, RefusedConnections: conns.Refused, SentAway: conns.SentAway,
			Calls: calls.Calls, RefusedCalls: calls.Refused,
		}
	}
	return all
}

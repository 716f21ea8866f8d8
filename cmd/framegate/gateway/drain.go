package gateway

import (
	"sync"
	"time"

	"github.com/framegate/framegate/admin"
)

// drainSwitch says whether a gateway drains. It is turned on once.
type drainSwitch struct {
	on chan struct{} // closed when it drains

	mu    sync.Mutex // guards since, and the closing of on
	since time.Time  // zero before
}

// turnOn reports whether it was off.
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

// Drain makes the gateway say that it is not ready, and closes Draining: whoever runs it is to call Shutdown then. It
// returns at once and may be called more than once.
func (g *Gateway) Drain() {
	if g.draining.turnOn() {
		g.health.stop()
		g.log.Info("draining", "delay", g.conf().Drain.Delay, "timeout", g.conf().Drain.Timeout)
	}
}

// Draining is closed when somebody has asked the gateway to drain, through the admin server or by Drain.
func (g *Gateway) Draining() <-chan struct{} { return g.draining.on }

func (g *Gateway) isDraining() bool {
	select {
	case <-g.draining.on:
		return true
	default:
		return false
	}
}

// drainStatus drains for the admin server.
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

// listeners counts what each listener has taken.
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

package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/acceptor"
	"github.com/framegate/framegate/relay"
	"github.com/framegate/framegate/resolver"
)

// listeners are the servers of all listeners, in the order of the configuration, and what they share.
type listeners struct {
	conf        func() *conf.Config // the configuration in force
	log         *slog.Logger
	resolver    *resolver.Resolver
	proxy       *handler.Proxy
	health      *health
	descriptors *acceptor.Descriptors
	shards      *relay.Shards
	failed      chan error // the error of the first listener that ended by itself; capacity 1

	servers []*kitexServer // appended to by start
	wg      sync.WaitGroup // of awaitEnd
}

// start starts a listener and returns when it takes calls.
func (ls *listeners) start(ctx context.Context, l conf.Listener) error {
	s, err := ls.startServer(ctx, l)
	if err != nil {
		return err
	}
	ls.servers = append(ls.servers, s)
	ls.wg.Go(func() { ls.awaitEnd(s) })
	ls.log.Info("listening", "listener", s.name, "address", s.addr.String())
	return nil
}

// awaitEnd waits until the server of a listener has ended and reports it to failed, which keeps the first.
func (ls *listeners) awaitEnd(s *kitexServer) {
	<-s.done
	err := s.err
	if err == nil {
		err = errors.New("it stopped")
	}
	select {
	case ls.failed <- fmt.Errorf("listener %s: %w", s.name, err):
	default:
	}
}

// maxCalls returns max_calls by the name of the listener.
func maxCalls(c *conf.Config) map[string]int {
	limits := make(map[string]int, len(c.Listeners))
	for _, l := range c.Listeners {
		limits[l.Name] = l.MaxCalls
	}
	return limits
}

// setLimits puts those limits of cfg in force that may change while the listeners run.
func (ls *listeners) setLimits(cfg *conf.Config) {
	ls.proxy.SetMaxCalls(maxCalls(cfg))
	ls.proxy.Mirrors().SetMaxCalls(cfg.Mirrors.MaxCalls)
	ls.health.watches.SetMax(cfg.Limits.MaxHealthWatches)
	for i, s := range ls.servers {
		s.conns.SetMaxConnections(cfg.Listeners[i].MaxConnections)
	}
}

// addr returns the address on which the named listener takes calls, or "" if there is none of that name.
func (ls *listeners) addr(listener string) string {
	for _, s := range ls.servers {
		if s.name == listener {
			return s.addr.String()
		}
	}
	return ""
}

// stats returns the connections and calls of each listener, accepted and refused.
func (ls *listeners) stats() []admin.ListenerStats {
	all := make([]admin.ListenerStats, len(ls.servers))
	for i, s := range ls.servers {
		conns, calls := s.conns.Stats(), ls.proxy.Entrance(s.name)
		all[i] = admin.ListenerStats{
			Name: s.name, Connections: conns.Connections, RefusedConnections: conns.Refused, SentAway: conns.SentAway,
			Calls: calls.Calls, RefusedCalls: calls.Refused,
		}
	}
	return all
}

// stop stops the listeners and waits for their calls. When drain.timeout has passed or ctx ends, it ends the calls.
func (ls *listeners) stop(ctx context.Context) {
	if len(ls.servers) == 0 {
		return
	}
	var servers sync.WaitGroup
	stopped := make(chan struct{})
	for _, s := range ls.servers {
		servers.Go(s.stop)
	}
	go func() {
		servers.Wait()
		close(stopped)
	}()
	timeout := time.NewTimer(ls.conf().Drain.Timeout)
	defer timeout.Stop()
	select {
	case <-stopped:
		return
	case <-ctx.Done():
	case <-timeout.C:
	}
	// Again and again, because calls still come on connections whose clients have not read GOAWAY yet.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ls.proxy.EndCalls()
		ls.shards.EndCalls()
		select {
		case <-stopped:
			return
		case <-tick.C:
		}
	}
}

// close waits until nothing of the listeners runs any more. stop has stopped them.
func (ls *listeners) close() {
	ls.wg.Wait()
	ls.descriptors.Close()
	ls.shards.Close()
}

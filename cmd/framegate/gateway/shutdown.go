package gateway

import (
	"context"
	"sync"
	"time"
)

// Shutdown drains and stops everything: health turns to NOT_SERVING, the registration goes, drain.delay passes, clients
// get GOAWAY, calls go on until they end, ctx ends or drain.timeout passes, and what is left ends with UNAVAILABLE
// "draining". It may be called more than once; later calls wait for the first.
func (g *Gateway) Shutdown(ctx context.Context) {
	g.shutdown.Do(func() {
		g.Drain()
		g.awaitReload()
		var deregistered sync.WaitGroup
		if g.register != nil {
			deregistered.Go(g.register.stop) // beside the drain: etcd may be slow or gone
		}
		g.awaitDelay(ctx)
		g.drain(ctx)
		deregistered.Wait()
		g.stop(ctx)
	})
}

// abandon stops what a start that has failed left: nobody was told to send calls here, so nobody is told to go, and
// nothing is waited for.
func (g *Gateway) abandon(ctx context.Context) {
	g.shutdown.Do(func() {
		g.draining.turnOn()
		g.health.stop()
		now, cancel := context.WithCancel(ctx)
		cancel()
		g.drain(now)
		g.stop(ctx)
	})
}

// stop stops all but the listeners, which have ended.
func (g *Gateway) stop(ctx context.Context) {
	if g.admin != nil {
		g.admin.Close()
	}
	if g.sources != nil {
		g.sources.stop()
	}
	if g.proxy != nil {
		g.proxy.Close()
	}
	g.resolver.Close()
	g.pool.Close()
	g.wg.Wait()
	g.descriptors.Close()
	if err := g.observers.stop(ctx); err != nil {
		g.log.Warn("the access log or the tracer did not end cleanly", "error", err)
	}
}

// awaitReload returns when no Reload is under way; later ones do nothing, since the gateway drains.
func (g *Gateway) awaitReload() {
	g.reloading.Lock()
	defer g.reloading.Unlock()
}

// awaitDelay lets drain.delay pass.
func (g *Gateway) awaitDelay(ctx context.Context) {
	delay := time.NewTimer(g.conf().Drain.Delay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-ctx.Done():
	}
}

func (g *Gateway) drain(ctx context.Context) {
	if len(g.servers) == 0 {
		return
	}
	var servers sync.WaitGroup
	stopped := make(chan struct{})
	for _, s := range g.servers {
		servers.Go(s.stop)
	}
	go func() {
		servers.Wait()
		close(stopped)
	}()
	timeout := time.NewTimer(g.conf().Drain.Timeout)
	defer timeout.Stop()
	select {
	case <-stopped:
		return
	case <-ctx.Done():
	case <-timeout.C:
	}
	// Calls may still come in on connections whose clients have not heard yet.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		g.proxy.EndCalls()
		select {
		case <-stopped:
			return
		case <-tick.C:
		}
	}
}

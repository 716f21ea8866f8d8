package gateway

import (
	"context"
	"sync"
	"time"
)

// Shutdown drains and stops everything. Health turns to NOT_SERVING, the gateway deregisters, drain.delay passes, and clients
// get GOAWAY. Calls go on until they end, ctx ends or drain.timeout passes; those that are left then end with UNAVAILABLE
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

// abandon stops what a failed Start has started, without a delay and without waiting for calls, because no client was sent
// here yet.
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

// stop stops everything but the listeners, which drain has stopped.
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

// awaitReload waits for a Reload under way. Later ones do nothing, because the gateway drains.
func (g *Gateway) awaitReload() {
	g.reloading.Lock()
	defer g.reloading.Unlock()
}

// awaitDelay waits for drain.delay, or until ctx ends.
func (g *Gateway) awaitDelay(ctx context.Context) {
	delay := time.NewTimer(g.conf().Drain.Delay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-ctx.Done():
	}
}

// drain stops the listeners and waits for their calls. When drain.timeout has passed or ctx ends, it ends the calls.
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
	// Again and again, because calls still come on connections whose clients have not read GOAWAY yet.
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

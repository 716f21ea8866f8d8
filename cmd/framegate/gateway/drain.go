package gateway

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/framegate/framegate/conf"
)

// drainer tells whether the gateway drains. It is turned on once and never off.
type drainer struct {
	conf func() *conf.Config // the configuration in force
	log  *slog.Logger
	on   chan struct{} // closed by turnOn

	mu    sync.Mutex // guards since, and the closing of on
	since time.Time  // when it was turned on; zero before
}

// begin turns the drain on and logs that, unless it is on.
func (d *drainer) begin() {
	if d.turnOn() {
		c := d.conf().Drain
		d.log.Info("draining", "delay", c.Delay, "timeout", c.Timeout)
	}
}

// turnOn turns the drain on, and reports whether it was off before.
func (d *drainer) turnOn() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.since.IsZero() {
		return false
	}
	d.since = time.Now()
	close(d.on)
	return true
}

func (d *drainer) isOn() bool {
	select {
	case <-d.on:
		return true
	default:
		return false
	}
}

// began returns when the drain was turned on; the zero time if it is off.
func (d *drainer) began() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.since
}

// awaitDelay waits for drain.delay, or until ctx ends.
func (d *drainer) awaitDelay(ctx context.Context) {
	delay := time.NewTimer(d.conf().Drain.Delay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-ctx.Done():
	}
}

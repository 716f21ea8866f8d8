package etcdsource

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// hold keeps an instance as long as it takes connections, and drops it keepFor after it vanished at the latest.
func (k *keeper) hold(ctx context.Context, v *vanished) {
	over := time.NewTimer(time.Until(v.at.Add(k.keepFor)))
	defer over.Stop()
	for {
		err := k.check(ctx, v.Address)
		deregistered := false
		if v.open {
			there, known := k.leaseIsThere(ctx, v.lease)
			deregistered, v.open = there, !known
		}
		if ctx.Err() != nil {
			return
		}
		switch {
		case deregistered:
			k.drop(v, "it deregistered", nil)
			return
		case errors.Is(err, errNotAllowed):
			k.drop(v, "no calls may be sent to it", err)
			return
		case err != nil:
			k.drop(v, "it takes no connections", err)
			return
		}
		k.admit(v)
		select {
		case <-time.After(keptCheck):
		case <-over.C:
			k.drop(v, "its time is over", nil)
			return
		case <-ctx.Done():
			return
		}
	}
}

// check connects to an instance and returns nil if that works. It tries twice, unless the connection was refused, by the
// instance or by control.
func (k *keeper) check(ctx context.Context, address string) (err error) {
	for range 2 {
		if !k.takeTurn(ctx) {
			return ctx.Err()
		}
		err = speaksHTTP2(ctx, &k.dialer, address, keptTimeout)
		<-k.checks
		if err == nil || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, errNotAllowed) {
			return err
		}
		select {
		case <-time.After(keptRetry):
		case <-ctx.Done():
		}
	}
	return err
}

// admit makes an instance a member, if it is not one yet, after it took a connection.
func (k *keeper) admit(v *vanished) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.vanished.has(v) && v.state == vanishedChecked {
		v.state = vanishedKept
		k.ever++
		k.settleSoon(v.service)
	}
}

// drop ends that an instance is kept.
func (k *keeper) drop(v *vanished, reason string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.vanished.has(v) || k.ctx.Err() != nil {
		return
	}
	k.vanished.remove(v)
	k.settleSoon(v.service)
	k.log.Info("an instance that vanished is kept no longer", "service", v.service, "address", v.Address, "reason", reason, "error", err)
}

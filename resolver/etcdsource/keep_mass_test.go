package etcdsource

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdtest"
)

// losing is a keeper without etcd, that counts what it publishes.
type losing struct {
	*keeper
	r         *resolver.Resolver
	published int // guarded by the keeper's mu
}

func newLosing(t *testing.T) *losing {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	l := &losing{r: resolver.New()}
	l.keeper = newKeeper(time.Minute, newReachability(log, "e"), log, l.r)
	l.publish = func(service string, in []spec.Instance) { l.published++; l.r.SetInstances(service, in) }
	t.Cleanup(func() { l.close(); l.r.Close() })
	return l
}

// register registers instances at which nobody listens.
func (l *losing) register(service string, addresses ...string) {
	all := map[string]*spec.Instance{}
	for _, address := range addresses {
		all[service+"/"+address] = &spec.Instance{Address: address, Weight: spec.DefaultInstanceWeight}
	}
	l.apply(all)
}

// lose deletes instances that are on a lease, which has ended, or on none.
func (l *losing) lose(lease int64, service string, addresses ...string) {
	all := map[string]*spec.Instance{}
	for _, address := range addresses {
		name := service + "/" + address
		l.note(name, &document[spec.Instance]{lease: lease})
		all[name] = nil
	}
	l.apply(all)
}

func (l *losing) counts() (vanished, published int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.vanished.byName), l.published
}

func TestKeep_AServiceOfThousandsIsLostAndFoundTogether(t *testing.T) {
	l := newLosing(t)
	var all []string
	for i := range 5000 {
		all = append(all, fmt.Sprintf("127.1.%d.%d:9", i/250, i%250+1))
	}
	l.register("echo", all...)
	l.lose(unknownLease, "echo", all...)
	etcdtest.Eventually(t, etcdtest.Soon, "nothing listens there", func() bool { return len(l.r.Instances()["echo"]) == 0 })
	vanished, published := l.counts()
	require.Zero(t, vanished)
	require.Less(t, published, 500)

	l.register("echo", all...)
	l.lose(unknownLease, "echo", all...)
	began := time.Now()
	l.register("echo", all...)
	require.Less(t, time.Since(began), 5*time.Second)
	require.Len(t, l.r.Instances()["echo"], 5000)
}

// Names of services are free to choose: what was lost is not known for longer than it counts.
func TestKeep_WhatWasLostIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLosing(t)
		for i := range 100 {
			service := fmt.Sprintf("s%d", i)
			l.register(service, "a:1", "a:2", "a:3")
			l.lose(unknownLease, service, "a:1")
			time.Sleep(maxApplyWait)
			synctest.Wait() // it is decided
			l.lose(0, service, "a:2", "a:3")
		}
		vanished, _ := l.counts()
		require.NotZero(t, vanished)
		time.Sleep(lossWindow + time.Millisecond)
		synctest.Wait()
		vanished, _ = l.counts()
		require.Zero(t, vanished)
		require.Empty(t, l.registered)
		require.Empty(t, l.noted)
	})
}

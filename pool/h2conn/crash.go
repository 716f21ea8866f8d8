package h2conn

import (
	"fmt"
	"sync"

	"github.com/cloudwego/kitex/pkg/gofunc"
)

// crashes passes panics of Kitex's goroutines on to subscribers. A transport has goroutines for reading, writing and
// keepalive. Kitex recovers from a panic in one of them and keeps the connection, which then looks healthy, but no longer
// works.
//
// Kitex has one panic handler for the process, which gets the names that the goroutine was started with.
var crashes struct {
	once sync.Once // sets the handler

	mu          sync.Mutex // guards the fields below
	subscribers map[*crashSubscriber]struct{}
	named       uint64 // names that were made
}

// crashSubscriber is a subscription of SubscribeCrashes.
type crashSubscriber struct {
	of      gofunc.Info
	crashed func()
}

// SubscribeCrashes makes Kitex's panic handler call crashed when a goroutine has panicked that Kitex started for the service
// and the address in of. crashed is called in that goroutine, and must not block. unsubscribe ends the subscription; it may
// be called more than once.
func SubscribeCrashes(of gofunc.Info, crashed func()) (unsubscribe func()) {
	crashes.once.Do(func() { gofunc.SetPanicHandler(onCrash) })
	s := &crashSubscriber{of, crashed}
	crashes.mu.Lock()
	defer crashes.mu.Unlock()
	if crashes.subscribers == nil {
		crashes.subscribers = map[*crashSubscriber]struct{}{}
	}
	crashes.subscribers[s] = struct{}{}
	return func() {
		crashes.mu.Lock()
		defer crashes.mu.Unlock()
		delete(crashes.subscribers, s)
	}
}

// onCrash is the panic handler: it calls the subscribers for info. Kitex has logged the panic already.
func onCrash(info *gofunc.Info, _ any, _ string) {
	crashes.mu.Lock()
	var found []*crashSubscriber
	for s := range crashes.subscribers {
		if s.of == *info {
			found = append(found, s)
		}
	}
	crashes.mu.Unlock()
	for _, s := range found {
		s.crashed()
	}
}

// uniqueName returns a name for a connection to addr that no other connection has.
func uniqueName(addr string) string {
	crashes.mu.Lock()
	defer crashes.mu.Unlock()
	crashes.named++
	return fmt.Sprintf("%s#%d", addr, crashes.named)
}

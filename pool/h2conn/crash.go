package h2conn

import (
	"fmt"
	"sync"

	"github.com/cloudwego/kitex/pkg/gofunc"
)

// crashes hears of the panics of Kitex's goroutines. A transport has a reader, a writer and a keepalive; Kitex recovers
// from a panic in one of them, and leaves the connection as it is: it looks well, and nothing moves on it any more.
//
// Kitex has room for one handler of panics in the process, and tells it the names that the goroutine was started with.
var crashes struct {
	once sync.Once // sets the handler

	mu       sync.Mutex // guards the fields below
	watchers map[*crashWatcher]struct{}
	named    uint64 // names that were made
}

type crashWatcher struct {
	of      gofunc.Info
	crashed func()
}

// WatchCrashes calls crashed when a goroutine of Kitex's has ended with a panic that was started for the service and the
// address in of. It calls it in that goroutine: crashed must not block. stop ends the watch and may be called more than
// once.
func WatchCrashes(of gofunc.Info, crashed func()) (stop func()) {
	crashes.once.Do(func() { gofunc.SetPanicHandler(onCrash) })
	w := &crashWatcher{of, crashed}
	crashes.mu.Lock()
	defer crashes.mu.Unlock()
	if crashes.watchers == nil {
		crashes.watchers = map[*crashWatcher]struct{}{}
	}
	crashes.watchers[w] = struct{}{}
	return func() {
		crashes.mu.Lock()
		defer crashes.mu.Unlock()
		delete(crashes.watchers, w)
	}
}

// onCrash has the type that gofunc.SetPanicHandler wants. Kitex has logged the panic.
func onCrash(info *gofunc.Info, _ any, _ string) {
	crashes.mu.Lock()
	var found []*crashWatcher
	for w := range crashes.watchers {
		if w.of == *info {
			found = append(found, w)
		}
	}
	crashes.mu.Unlock()
	for _, w := range found {
		w.crashed()
	}
}

// uniqueName returns a name that no other connection has.
func uniqueName(addr string) string {
	crashes.mu.Lock()
	defer crashes.mu.Unlock()
	crashes.named++
	return fmt.Sprintf("%s#%d", addr, crashes.named)
}

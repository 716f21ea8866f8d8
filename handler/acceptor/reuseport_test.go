package acceptor

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/loopback"
)

// served makes a connection, and returns nil if it was accepted and answered.
func served(addr string) error {
	nc, err := net.DialTimeout("tcp", addr, waitLimit)
	if err != nil {
		return err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(waitLimit))
	if _, err := io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	if _, err := io.ReadFull(nc, make([]byte, len("HTTP/1.1 505"))); err != nil {
		return fmt.Errorf("not answered: %w", err)
	}
	return nil
}

// The kernel resets what waits in the queue of a listener that is closed. Connections come as fast as they can while one
// server after another takes the address over from the one before.
func TestShutdown_LosesNoConnectionToTheServerBesideIt(t *testing.T) {
	t.Parallel()
	const handovers, clients = 3, 8
	addr, cfg := loopback.Address(t), Config{ReusePort: true}
	old := start(t, addr, cfg)

	var over atomic.Bool
	var good, failed atomic.Int64
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for !over.Load() {
				if err := served(addr); err != nil {
					failed.Add(1)
					first.CompareAndSwap(nil, &err)
				} else {
					good.Add(1)
				}
				time.Sleep(4 * time.Millisecond)
			}
		})
	}
	for i := range handovers {
		next := start(t, addr, cfg)
		if i%3 == 2 { // the younger one may be the one that ends
			old, next = next, old
		}
		old.stop(t)
		old = next
	}
	over.Store(true)
	wg.Wait()
	t.Logf("%d connections, %d lost", good.Load(), failed.Load())
	if p := first.Load(); p != nil {
		t.Errorf("%d of %d connections were lost, the first: %v", failed.Load(), good.Load()+failed.Load(), *p)
	}
	require.NoError(t, served(addr))
}

func TestShutdown_AnyOfThreeMayLeave(t *testing.T) {
	t.Parallel()
	for leaving := range 3 {
		t.Run(fmt.Sprint(leaving), func(t *testing.T) {
			t.Parallel()
			addr, cfg := loopback.Address(t), Config{ReusePort: true}
			var all []*running
			for range 3 {
				all = append(all, start(t, addr, cfg))
			}
			all[leaving].stop(t)
			for range 20 {
				require.NoError(t, served(addr))
			}
		})
	}
}

func TestShutdown_AloneOnASharedAddressEndsAtOnce(t *testing.T) {
	t.Parallel()
	quickest := time.Hour
	for range 3 { // the machine does other things too
		r := start(t, loopback.Address(t), Config{ReusePort: true})
		begin := time.Now()
		r.stop(t)
		quickest = min(quickest, time.Since(begin))
		require.Error(t, served(r.addr))
	}
	require.Less(t, quickest, acceptBeside)
}

func TestListen_SharesAnAddressOnlyWithReuse(t *testing.T) {
	t.Parallel()
	r := start(t, "127.0.0.1:0", Config{})
	_, err := Listen(t.Context(), r.addr, ReusePort)
	require.ErrorContains(t, err, "in use")
}

package test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/test/leak"
	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

// processWide are goroutines that libraries start once in a process and never stop.
var processWide = append(leak.Kitex(),
	// registry-etcd never closes its clients of etcd: those of other tests look for theirs as long as the process lives.
	goleak.IgnoreAnyFunction("google.golang.org/grpc.(*addrConn).connect"),
)

// openFiles returns what the process's file descriptors are.
func openFiles(t testing.TB) []string {
	t.Helper()
	const dir = "/proc/self/fd/"
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var files []string
	for _, e := range entries {
		if target, err := os.Readlink(dir + e.Name()); err == nil { // not the descriptor that lists them
			files = append(files, target)
		}
	}
	return files
}

// Kinds of calls that end in different ways. Each returns nil when the call ended as it should.
var endings = map[string]func(ctx context.Context, cc *grpc.ClientConn) error{
	"ok": func(ctx context.Context, cc *grpc.ClientConn) error {
		_, err := testbed.Unary(ctx, cc, text("echo"))
		return err
	},
	"stream": func(ctx context.Context, cc *grpc.ClientConn) error {
		stream, err := testbed.Call(ctx, cc)
		if err != nil {
			return err
		}
		return pingPong(stream, 1, 3)
	},
	"error": func(ctx context.Context, cc *grpc.ClientConn) error {
		_, err := testbed.Unary(ctx, cc, text("fail"))
		return wantCode(err, codes.Aborted)
	},
	"server ends first": func(ctx context.Context, cc *grpc.ClientConn) error {
		stream, err := testbed.Call(ctx, cc)
		if err != nil {
			return err
		}
		if err := testbed.Send(stream, text("fail")); err != nil {
			return err
		}
		_, err = testbed.Recv(stream)
		return wantCode(err, codes.Aborted)
	},
	"cancelled": func(ctx context.Context, cc *grpc.ClientConn) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := testbed.Call(ctx, cc)
		if err != nil {
			return err
		}
		if err := testbed.Send(stream, text("echo")); err != nil {
			return err
		}
		if _, err := testbed.Recv(stream); err != nil {
			return err
		}
		cancel()
		_, err = testbed.Recv(stream)
		return wantCode(err, codes.Canceled)
	},
	"expired": func(ctx context.Context, cc *grpc.ClientConn) error {
		ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		_, err := testbed.Unary(ctx, cc, text("wait"))
		return wantCode(err, codes.DeadlineExceeded)
	},
}

func wantCode(err error, want codes.Code) error {
	if status.Code(err) != want {
		return fmt.Errorf("got %v, want code %s", err, want)
	}
	return nil
}

// obey echoes messages, except those that ask for something else.
func obey(stream grpc.ServerStream) error {
	for {
		m, err := testbed.Recv(stream)
		if err != nil {
			return endOf(err)
		}
		switch string(m) {
		case string(text("fail")):
			return status.Error(codes.Aborted, "as you wish")
		case string(text("wait")):
			<-stream.Context().Done()
			return stream.Context().Err()
		}
		if err := testbed.Send(stream, m); err != nil {
			return err
		}
	}
}

func endOf(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// makeCalls makes n calls of all endings, some at a time.
func makeCalls(t testing.TB, cc *grpc.ClientConn, n int) {
	t.Helper()
	const workers = 16
	var names []string
	for name := range endings {
		names = append(names, name)
	}
	slices.Sort(names)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				name := names[i%len(names)]
				ctx, cancel := context.WithTimeout(context.Background(), testbed.Patience)
				if err := endings[name](ctx, cc); err != nil {
					t.Errorf("call %d, %s: %v", i, name, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

func TestResources_BackToStartAfter10000Calls(t *testing.T) {
	eachRoutes(t, func(t *testing.T, routes routesTo) {
		const warmUp = 200
		calls := race.Choose(10_000, 1200)
		ignore := append(slices.Clone(processWide), leak.IgnoreCurrent(t))
		t.Cleanup(func() { goleak.VerifyNone(t, ignore...) }) // after the clean-ups of all that is made below

		proxy := testbed.NewProxy(t, routes(t, testbed.NewRaw(t, obey)))
		cc := testbed.DialGRPC(t, proxy.Addr)
		makeCalls(t, cc, warmUp)
		testbed.Poll(t, func() error {
			if n := proxy.UpstreamStreams(); n != 0 {
				return fmt.Errorf("got %d streams to the upstream, want 0", n)
			}
			return nil
		})
		leak.Settle(t)
		goroutines, files, connections := runtime.NumGoroutine(), openFiles(t), proxy.UpstreamConnections()

		makeCalls(t, cc, calls)

		testbed.Poll(t, func() error {
			nowGoroutines, nowFiles := runtime.NumGoroutine(), openFiles(t)
			switch {
			case proxy.UpstreamStreams() != 0:
				return fmt.Errorf("got %d streams to the upstream, want 0", proxy.UpstreamStreams())
			case proxy.UpstreamConnections() > connections:
				return fmt.Errorf("got %d connections to the upstream, want %d as before", proxy.UpstreamConnections(), connections)
			case nowGoroutines > goroutines:
				return fmt.Errorf("got %d goroutines, want %d as before", nowGoroutines, goroutines)
			case len(nowFiles) > len(files):
				return fmt.Errorf("got %d open files %q, want %d as before %q", len(nowFiles), nowFiles, len(files), files)
			}
			return nil
		})
	})
}

// Many clients that come, call and go leave nothing behind.
func TestResources_BackToStartAfterManyConnections(t *testing.T) {
	eachRoutes(t, func(t *testing.T, routes routesTo) {
		const clients = 200
		ignore := append(slices.Clone(processWide), leak.IgnoreCurrent(t))
		t.Cleanup(func() { goleak.VerifyNone(t, ignore...) })

		proxy := testbed.NewProxy(t, routes(t, testbed.NewRaw(t, obey)))
		comeAndGo := func() {
			cc := testbed.DialGRPC(t, proxy.Addr)
			_, err := testbed.Unary(patient(t), cc, text("echo"))
			require.NoError(t, err)
			require.NoError(t, cc.Close())
		}
		for range 2 * runtime.GOMAXPROCS(0) { // each part of the relay has connections to endpoints of its own
			comeAndGo()
		}
		files := len(openFiles(t))
		for range clients {
			comeAndGo()
		}
		testbed.Poll(t, func() error {
			if now := openFiles(t); len(now) > files {
				return fmt.Errorf("got %d open files %q, want %d as before", len(now), now, files)
			}
			return nil
		})
	})
}

const (
	fixedWindow = 65535   // fixed windows, so that what lies between the peers is known
	floodLimit  = 2 << 20 // what may be under way on a stream that nobody reads
)

// One stream of a connection is not read, at the client or at the server, while its sender sends as much as it can: the
// others go on as before and memory stays what it was.
func TestResources_SlowReaderDelaysNobody(t *testing.T) {
	for name, flood := range map[string]func(t *testing.T, stream grpc.ClientStream, sent *atomic.Int64){
		"client does not read": func(t *testing.T, stream grpc.ClientStream, _ *atomic.Int64) {
			require.NoError(t, testbed.Send(stream, text("flood")))
			_, err := stream.Header()
			require.NoError(t, err)
		},
		"server does not read": func(t *testing.T, stream grpc.ClientStream, sent *atomic.Int64) {
			require.NoError(t, testbed.Send(stream, text("wait")))
			done := make(chan struct{})
			go func() {
				defer close(done)
				pour(stream, sent)
			}()
			t.Cleanup(func() { testbed.Await(t, done, "the end of the flood") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachPath(t, func(t *testing.T, to via) { slowReader(t, to, flood) })
		})
	}
}

func slowReader(t *testing.T, to via, flood func(*testing.T, grpc.ClientStream, *atomic.Int64)) {
	const streams, rounds = 199, 5
	var sent atomic.Int64
	backend := testbed.NewRaw(t, func(stream grpc.ServerStream) error {
		m, err := testbed.Recv(stream)
		if err != nil {
			return endOf(err)
		}
		if string(m) == string(text("flood")) {
			return pour(stream, &sent)
		}
		if string(m) == string(text("wait")) {
			<-stream.Context().Done()
			return stream.Context().Err()
		}
		if err := testbed.Send(stream, m); err != nil {
			return err
		}
		return echoAll(stream)
	}, grpc.InitialWindowSize(fixedWindow), grpc.InitialConnWindowSize(fixedWindow))
	cc := testbed.DialGRPC(t, to(t, backend), grpc.WithInitialWindowSize(fixedWindow), grpc.WithInitialConnWindowSize(fixedWindow))

	others := make([]grpc.ClientStream, streams)
	for i := range others {
		others[i] = call(t, cc)
	}
	medianLatency(t, others, 1) // opens the streams
	alone := medianLatency(t, others, rounds)
	runtime.GC()
	heap := heapBytes()

	slowCtx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop) // before the clean-up of flood, which waits for it
	slow, err := testbed.Call(slowCtx, cc)
	require.NoError(t, err)
	flood(t, slow, &sent)
	t.Cleanup(stop)
	limit := 3*alone + 20*time.Millisecond
	beside := medianLatency(t, others, rounds)
	for again := 0; beside > limit && again < 3; again++ { // a busy machine is late now and then, a reader that holds others up always
		beside = medianLatency(t, others, rounds)
	}
	if beside > limit {
		t.Errorf("got a median latency of %s beside a slow reader, want at most %s (alone: %s)", beside, limit, alone)
	}
	if n := sent.Load(); n == 0 || n > floodLimit {
		t.Errorf("got %d bytes taken for a stream that nobody reads, want 1 to %d", n, floodLimit)
	}
	runtime.GC()
	if grown := int64(heapBytes()) - int64(heap); grown > heapLimit {
		t.Errorf("got %d MiB more heap, want at most %d MiB", grown>>20, heapLimit>>20)
	}
}

// pour sends until the stream ends, and counts what was taken.
func pour(stream interface{ SendMsg(m any) error }, sent *atomic.Int64) error {
	message := pattern(16<<10, 0)
	for {
		if err := testbed.Send(stream, message); err != nil {
			return err
		}
		sent.Add(int64(len(message)))
	}
}

// medianLatency exchanges messages on all streams at the same time and returns the median time of an exchange.
func medianLatency(t testing.TB, streams []grpc.ClientStream, rounds int) time.Duration {
	t.Helper()
	took := make([]time.Duration, len(streams)*rounds)
	errs := make([]error, len(streams))
	var wg sync.WaitGroup
	for i, stream := range streams {
		wg.Go(func() {
			for r := range rounds {
				start := time.Now()
				if errs[i] = exchange(stream); errs[i] != nil {
					return
				}
				took[i*rounds+r] = time.Since(start)
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	slices.Sort(took)
	return took[len(took)/2]
}

func exchange(stream grpc.ClientStream) error {
	if err := testbed.Send(stream, text("ping")); err != nil {
		return err
	}
	_, err := testbed.Recv(stream)
	return err
}

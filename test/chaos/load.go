package chaos

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// LoadConfig says what load to make; a zero field means its default.
type LoadConfig struct {
	Rate        int           // unary calls per second, begun on schedule whatever the answers do; default 500
	FreshRate   int           // further unary calls per second, each on a connection of its own; default none
	Streams     int           // ping-pong streams; default 50, below 0 none
	Connections int           // grpc-go connections that the calls share; default 4
	Deadline    time.Duration // of a unary call; default 2s
	Delay       time.Duration // of the server before it answers a unary call; default 5ms
}

func (c LoadConfig) withDefaults() LoadConfig {
	orDefault(&c.Rate, 500)
	orDefault(&c.Streams, 50)
	orDefault(&c.Connections, 4)
	orDefault(&c.Deadline, 2*time.Second)
	orDefault(&c.Delay, 5*time.Millisecond)
	return c
}

func orDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// payload is the message of every unary call; the answer must have the same length.
var payload = make([]byte, 128)

// Load is a steady load: an open loop of unary calls, each begun when it is due, and ping-pong streams. Its clients retry
// nothing.
type Load struct {
	cfg   LoadConfig
	conns []*grpc.ClientConn
	begun time.Time

	addr string

	stop    context.CancelFunc // ends the open loops and the streams
	pacing  sync.WaitGroup     // the open loops
	calling sync.WaitGroup     // unary calls, which end by themselves
	ponging sync.WaitGroup     // streams

	streams []*pinger // set once

	mu      sync.Mutex // guards all below
	calls   []Call
	planned int // calls that were due; set by the open loops on exit
}

// StartLoad begins to make load on addr. The caller ends it with Stop.
func StartLoad(t testing.TB, addr string, cfg LoadConfig) *Load {
	t.Helper()
	l := &Load{cfg: cfg.withDefaults(), addr: addr, begun: time.Now()}
	for range l.cfg.Connections {
		l.conns = append(l.conns, Dial(t, addr))
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	t.Cleanup(func() { l.end() })
	l.pacing.Go(func() { l.pace(ctx, l.cfg.Rate, l.callShared) })
	if l.cfg.FreshRate > 0 {
		l.pacing.Go(func() { l.pace(ctx, l.cfg.FreshRate, l.callFresh) })
	}
	for i := range max(0, l.cfg.Streams) {
		p := &pinger{index: i, cc: l.conns[i%len(l.conns)]}
		l.streams = append(l.streams, p)
		l.ponging.Go(func() { p.run(ctx) })
	}
	return l
}

// Dial returns a grpc-go client of addr that retries nothing and reconnects at once.
func Dial(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	cc, err := newClient(addr)
	if err != nil {
		t.Fatalf("grpc.NewClient(%s): %v", addr, err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

func newClient(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond,
			},
			MinConnectTimeout: time.Second,
		}))
}

// Run lets the load go on for d.
func (l *Load) Run(d time.Duration) {
	<-time.After(d)
}

// Stop ends the load and returns its results. It begins no further call, cancels the streams, and waits for the calls under
// way, which end by their deadlines at the latest.
func (l *Load) Stop() *Report {
	l.end()
	r := &Report{Begun: l.begun, Planned: l.planned, Calls: l.calls}
	for _, p := range l.streams {
		r.Streams = append(r.Streams, p.result)
	}
	return r
}

func (l *Load) end() {
	l.stop()
	l.pacing.Wait()
	l.calling.Wait()
	l.ponging.Wait()
}

// pace begins the nth call n/rate after the load's beginning. If it is late, it begins all calls that are due at once.
func (l *Load) pace(ctx context.Context, rate int, call func(n int, due time.Time)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 0; ; n++ {
		due := l.begun.Add(time.Duration(n) * time.Second / time.Duration(rate))
		if d := time.Until(due); d > 0 {
			timer.Reset(d)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.planned += int(time.Since(l.begun) * time.Duration(rate) / time.Second)
			return
		}
		l.calling.Go(func() { call(n, due) })
	}
}

// Call is one unary call and its result.
type Call struct {
	ID    uint64
	Due   time.Time // when the open loop should have begun it
	Begun time.Time
	Ended time.Time
	outcome
}

// outcome is how a call or a stream ended.
type outcome struct {
	Code    codes.Code
	Reason  string // the trailer framegate-error; "" when the status is not framegate's own
	Message string
}

// The first numbers (IDKey) of calls on shared and on fresh connections. Those of streams are far above.
const (
	firstSharedID = 1
	firstFreshID  = 1 << 32
)

func (l *Load) callShared(n int, due time.Time) {
	l.call(l.conns[n%len(l.conns)], firstSharedID+uint64(n), due)
}

func (l *Load) callFresh(n int, due time.Time) {
	cc, err := newClient(l.addr)
	if err != nil {
		l.record(Call{ID: firstFreshID + uint64(n), Due: due, Begun: due, Ended: due, outcome: outcomeOf(err, nil)})
		return
	}
	defer cc.Close()
	l.call(cc, firstFreshID+uint64(n), due)
}

func (l *Load) call(cc *grpc.ClientConn, id uint64, due time.Time) {
	c := Call{ID: id, Due: due, Begun: time.Now()}
	ctx, cancel := context.WithTimeout(context.Background(), l.cfg.Deadline)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, IDKey, strconv.FormatUint(id, 10), DelayKey, l.cfg.Delay.String())
	var trailer metadata.MD
	reply := new(wrapperspb.BytesValue)
	err := cc.Invoke(ctx, UnaryMethod, wrapperspb.Bytes(payload), reply, grpc.Trailer(&trailer))
	c.Ended = time.Now()
	if err == nil && len(reply.Value) != len(payload) {
		err = status.Errorf(codes.DataLoss, "chaos: an answer of %d bytes, want %d", len(reply.Value), len(payload))
	}
	c.outcome = outcomeOf(err, trailer)
	l.record(c)
}

func (l *Load) record(c Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, c)
}

func outcomeOf(err error, trailer metadata.MD) outcome {
	o := outcome{Code: status.Code(err)}
	if err != nil {
		o.Message = status.Convert(err).Message()
	}
	if v := trailer.Get("framegate-error"); len(v) > 0 {
		o.Reason = v[0]
	}
	return o
}

// String returns the code, and the reason if framegate itself made the status.
func (o outcome) String() string {
	if o.Reason == "" {
		return o.Code.String()
	}
	return fmt.Sprintf("%s/%s", o.Code, o.Reason)
}

package etcdclient

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
)

// While etcd elects a leader its members answer, and do nothing. That takes a second or two, so that a command which has
// more time than that goes on trying.
const (
	minTryTime   = time.Second            // of one try, which else has half of the time left
	electionLook = 100 * time.Millisecond // between two tries
	deadPatience = time.Second            // how long a whole etcd may refuse connections
	aliveTimeout = time.Second            // for a member to take a call
)

// UnknownOutcomeError means that etcd did not say what became of a change: it was made, or was not, or even will be. Look,
// and decide anew.
type UnknownOutcomeError struct {
	Kind string // route, schema or service
	Name string // of it; empty for several
	Err  error  // why there is no answer
}

func (e *UnknownOutcomeError) Error() string {
	what := e.Kind + " " + e.Name
	if e.Name == "" {
		what = e.Kind + "s"
	}
	return fmt.Sprintf("%s: the change may or may not have been made: %v", what, e.Err)
}

// Unwrap returns why there is no answer.
func (e *UnknownOutcomeError) Unwrap() error { return e.Err }

// Write is one that is tried until etcd has said what became of it. Its tries must have the same condition, which none
// but the first that is made meets: it belongs to one goroutine.
type Write struct {
	cli    *clientv3.Client
	Unsure bool  // a try was sent whose outcome is not known
	why    error // the last reason that is more than that time is up
}

func NewWrite(cli *clientv3.Client) *Write { return &Write{cli: cli} }

// Ask asks something, which changes nothing, until it is answered or there is no use in it.
func Ask[T any](ctx context.Context, c *Write, question func(context.Context) (T, error)) (T, error) {
	for {
		try, cancel := tryContext(ctx)
		answer, err := question(try)
		cancel()
		if err == nil || !c.Again(ctx, err) {
			return answer, c.reason(err)
		}
	}
}

// Read commits a transaction that only reads, as ask does.
func (c *Write) Read(ctx context.Context, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	return Ask(ctx, c, func(ctx context.Context) (*clientv3.TxnResponse, error) { return c.cli.Txn(ctx).Then(ops...).Commit() })
}

// Commit makes one try. After an error, ask again, and then read again what it depends on.
func (c *Write) Commit(ctx context.Context, conditions []clientv3.Cmp, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := tryContext(ctx)
	defer cancel()
	ctx, sent := watchSent(ctx)
	resp, err := c.cli.Txn(ctx).If(conditions...).Then(ops...).Commit()
	if err != nil && sent.Load() && !IsRefused(err) && !IsTooLarge(err) && !errors.Is(err, rpctypes.ErrNoLeader) {
		c.Unsure = true
	}
	return resp, err
}

// Remove deletes a key, and reports whether there was one. check says why what the key holds must stay, or what must hold
// for it to go.
func (c *Write) Remove(ctx context.Context, key string, check func(context.Context, *mvccpb.KeyValue) ([]clientv3.Cmp, error)) (found bool, err error) {
	for conflicts := 0; conflicts < MaxConflicts; {
		now, err := c.Read(ctx, clientv3.OpGet(key))
		if err != nil {
			return false, err
		}
		kvs := now.Responses[0].GetResponseRange().Kvs
		if len(kvs) == 0 {
			return c.Unsure, nil // if a try was not answered, it had its effect
		}
		conditions, err := check(ctx, kvs[0])
		if err != nil {
			return false, err
		}
		same := clientv3.Compare(clientv3.ModRevision(key), "=", kvs[0].ModRevision)
		switch resp, err := c.Commit(ctx, append(conditions, same), clientv3.OpDelete(key)); {
		case err == nil && resp.Succeeded:
			return true, nil
		case err == nil:
			conflicts++
		case !c.Again(ctx, err):
			return false, err
		}
	}
	return false, ErrConflict
}

// Again waits, and reports whether another try may have another outcome than err.
func (c *Write) Again(ctx context.Context, err error) bool {
	if !IsUnavailable(err) {
		return false
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		c.why = err
	}
	for began := time.Now(); ; {
		select {
		case <-time.After(electionLook):
		case <-ctx.Done():
			return false
		}
		if ReachWithin(ctx, c.cli, aliveTimeout) == nil {
			return true
		}
		if time.Since(began) > deadPatience {
			return false
		}
	}
}

// reason is why there is no answer, as far as that is known.
func (c *Write) reason(err error) error {
	if errors.Is(err, context.DeadlineExceeded) && c.why != nil {
		return c.why
	}
	return err
}

// Failed is the error of a change that err ends; nil if that is nil.
func (c *Write) Failed(kind, name string, err error) error {
	if err = c.reason(err); err != nil && c.Unsure && !errors.As(err, new(*ConflictError)) {
		return &UnknownOutcomeError{Kind: kind, Name: name, Err: err}
	}
	return err
}

// tryContext returns the context of one try, which only a member that has a leader takes.
func tryContext(ctx context.Context) (context.Context, context.CancelFunc) {
	within := RequestTimeout
	if end, ok := ctx.Deadline(); ok {
		within = max(time.Until(end)/2, minTryTime)
	}
	return context.WithTimeout(clientv3.WithRequireLeader(ctx), within)
}

type sentContext struct{}

// watchSent returns a context whose requests say whether any of them was given to a connection: one that was not has
// certainly changed nothing.
func watchSent(ctx context.Context) (context.Context, *atomic.Bool) {
	var sent atomic.Bool
	return context.WithValue(ctx, sentContext{}, &sent), &sent
}

// noteSent is the interceptor of a client that tells those who watchSent.
func noteSent(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	sent, ok := ctx.Value(sentContext{}).(*atomic.Bool)
	if !ok {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	var to peer.Peer // set for a stream that was opened
	err := invoke(ctx, method, req, reply, cc, append(opts, grpc.Peer(&to))...)
	if to.Addr != nil {
		sent.Store(true)
	}
	return err
}

// Jitter spreads waits so that many framegates do not come back to etcd at one time.
func Jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2)
}

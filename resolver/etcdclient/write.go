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

// While etcd elects a leader, which takes a second or two, its members refuse writes. A command that has more time than that
// goes on trying.
const (
	minTryTime   = time.Second            // of one try; else it has half of the time that is left
	electionLook = 100 * time.Millisecond // between two tries
	deadPatience = time.Second            // how long no member may take calls before a write gives up
	aliveTimeout = time.Second            // for a member to take a call
)

// UnknownOutcomeError means that etcd did not tell the outcome of a change: it was made, was not made, or may still be made.
// Read what is in etcd, and decide anew.
type UnknownOutcomeError struct {
	Kind string // route, schema or service
	Name string // of the route, schema or service; empty for several
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

// Write is a write to etcd that is repeated until etcd has told its outcome. The condition of each try must be such that it
// fails once an earlier try had its effect, so that the write has its effect only once. A Write belongs to one goroutine.
type Write struct {
	cli    *clientv3.Client
	Unsure bool  // a try was sent whose outcome is not known
	why    error // the last error of a try that says more than that time is up
}

// NewWrite returns a Write with a client.
func NewWrite(cli *clientv3.Client) *Write { return &Write{cli: cli} }

// Ask calls question, which must not change anything in etcd, until there is an answer or Again reports false.
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

// Read commits a transaction that only reads, and repeats it as Ask does.
func (c *Write) Read(ctx context.Context, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	return Ask(ctx, c, func(ctx context.Context) (*clientv3.TxnResponse, error) { return c.cli.Txn(ctx).Then(ops...).Commit() })
}

// Commit makes one try of the write. After an error call Again; if that reports true, read again what the write depends on.
func (c *Write) Commit(ctx context.Context, conditions []clientv3.Cmp, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := tryContext(ctx)
	defer cancel()
	ctx, sent := withSent(ctx)
	resp, err := c.cli.Txn(ctx).If(conditions...).Then(ops...).Commit()
	if err != nil && sent.Load() && !IsRefused(err) && !IsTooLarge(err) && !errors.Is(err, rpctypes.ErrNoLeader) {
		c.Unsure = true
	}
	return resp, err
}

// Remove deletes a key, and reports whether it existed. check gets the key's value, and returns an error if the key must not
// be deleted, or else further conditions of the deletion.
func (c *Write) Remove(ctx context.Context, key string, check func(context.Context, *mvccpb.KeyValue) ([]clientv3.Cmp, error)) (found bool, err error) {
	for conflicts := 0; conflicts < MaxConflicts; {
		now, err := c.Read(ctx, clientv3.OpGet(key))
		if err != nil {
			return false, err
		}
		kvs := now.Responses[0].GetResponseRange().Kvs
		if len(kvs) == 0 {
			return c.Unsure, nil // a try that was not answered has deleted it
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

// Again reports whether another try may do better than one that failed with err. It waits until a member takes calls, for up
// to deadPatience.
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

// reason returns the reason for err: if that says only that time is up, an earlier error that says more.
func (c *Write) reason(err error) error {
	if errors.Is(err, context.DeadlineExceeded) && c.why != nil {
		return c.why
	}
	return err
}

// Failed returns the error of a write that ended with err, nil if that is nil. It is an *UnknownOutcomeError if a try may
// have had its effect. kind and name are those of UnknownOutcomeError.
func (c *Write) Failed(kind, name string, err error) error {
	if err = c.reason(err); err != nil && c.Unsure && !errors.As(err, new(*ConflictError)) {
		return &UnknownOutcomeError{Kind: kind, Name: name, Err: err}
	}
	return err
}

// tryContext returns the context of one try. With it, a member without a leader refuses the request at once.
func tryContext(ctx context.Context) (context.Context, context.CancelFunc) {
	within := RequestTimeout
	if end, ok := ctx.Deadline(); ok {
		within = max(time.Until(end)/2, minTryTime)
	}
	return context.WithTimeout(clientv3.WithRequireLeader(ctx), within)
}

type sentContext struct{}

// withSent returns a context, and whether a request with that context was given to a connection. One that was not has
// certainly changed nothing.
func withSent(ctx context.Context) (context.Context, *atomic.Bool) {
	var sent atomic.Bool
	return context.WithValue(ctx, sentContext{}, &sent), &sent
}

// noteSent is a unary interceptor. It sets the Bool of withSent when the request was given to a connection.
func noteSent(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	sent, ok := ctx.Value(sentContext{}).(*atomic.Bool)
	if !ok {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	var to peer.Peer // set by gRPC once the request has a stream on a connection
	err := invoke(ctx, method, req, reply, cc, append(opts, grpc.Peer(&to))...)
	if to.Addr != nil {
		sent.Store(true)
	}
	return err
}

// Jitter returns a random time from 3/4 to 5/4 of d, so that many framegates do not come back to etcd at the same moment.
func Jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2)
}

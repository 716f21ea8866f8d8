package pool

import (
	"context"
	"errors"

	"github.com/framegate/framegate/pool/transport"
)

// Open opens a stream to the endpoint at addr (host:port or unix:/path), which the caller closes exactly once. It makes a
// connection if there is none. If all connections are full, it does what Config.WhenFull says.
//
// ctx is the call's context: the stream ends with it, and its deadline is sent. Open blocks until the stream is open or ctx
// ends, and for at most ConnectTimeout if ctx has no deadline.
//
// The error is a *DialError, a *FullError, a *transport.HeaderError, ErrClosed or that of ctx, which is wrapped in a
// *DialError if the endpoint has no connection. In all cases the endpoint has certainly seen nothing of the call. While an
// endpoint without connections backs off after a failed dial (Config.Backoff), Open fails at once with the *DialError of that
// dial.
func (g *Group) Open(ctx context.Context, addr string, hdr *transport.Header, opts OpenOptions) (transport.Stream, error) {
	if slot, ok := g.Take(addr, opts.Avoid); ok {
		s, err := slot.Open(ctx, hdr)
		if again, err := tryAgain(ctx, err); !again {
			return s, err
		}
	}
	return g.openLater(ctx, addr, hdr, opts)
}

// tryAgain reports whether Open tries another connection after transport.Conn.Open has returned err, or else what Open
// returns: ctx may have ended after a failure that was another one's.
func tryAgain(ctx context.Context, err error) (bool, error) {
	switch {
	case err == nil || errors.As(err, new(*transport.HeaderError)):
		return false, err
	case ctx.Err() != nil:
		return false, ctx.Err()
	default:
		return true, nil
	}
}

// openLater waits for a slot and opens a stream.
func (g *Group) openLater(ctx context.Context, addr string, hdr *transport.Header, opts OpenOptions) (transport.Stream, error) {
	type answer struct {
		slot Slot
		err  error
	}
	answers := make(chan answer, 1)
	_, bounded := ctx.Deadline()
	var w Waiting
	defer w.End()
	g.Wait(&w, addr, WaitOptions{OpenOptions: opts, OwnDeadline: bounded}, func(slot Slot, err error) { answers <- answer{slot, err} })
	for {
		var a answer
		select {
		case a = <-answers:
		case <-ctx.Done():
			w.Cancel(ctx.Err())
			if a = <-answers; a.err == nil { // it was answered just before it gave up
				a.slot.Release()
				return nil, ctx.Err()
			}
		}
		if a.err != nil {
			return nil, a.err
		}
		s, err := a.slot.Open(ctx, hdr)
		if again, err := tryAgain(ctx, err); !again {
			return s, err
		}
		w.Again(err)
	}
}

package structmode

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/handler/structmode/reflection"
	"github.com/framegate/framegate/handler/structmode/rule"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/health"
	"github.com/framegate/framegate/resolver/schema"
)

// rulesOf returns the compiled rules and schema of prog for a call, or nil if the route has no schema. It may block, while
// an endpoint of the call's backend is asked for the schema, until ctx ends.
func (m *Mode) rulesOf(ctx context.Context, prog *program, target *cluster.Target, method string) (*rule.Compiled, *local.Error) {
	if prog.reflected == nil {
		return prog.rules, nil
	}
	if target.ChooseBackend() != nil {
		return nil, local.Errorf(codes.Unavailable, local.ReasonNoEndpoint, "route %s has no endpoint that may be used", target.Route)
	}
	rules, err := m.reflections.Get(ctx, prog.key+target.Backend, method, func(ctx context.Context) (*rule.Compiled, error) {
		return m.askEndpoint(ctx, prog, target, method)
	}, func(rules *rule.Compiled, method string) bool { return rules.Method(method) != nil })
	var misfit *misfitError
	var mine *local.Error
	switch {
	case err == nil:
		return rules, nil
	case ctx.Err() != nil:
		return nil, local.ContextError(ctx)
	case errors.Is(err, budget.ErrOver):
		return nil, local.ErrNoRoom
	case errors.As(err, &mine): // the endpoint's answer is too large
		return nil, mine
	case errors.As(err, &misfit):
		return nil, local.Errorf(codes.Internal, local.ReasonRuleFailed, "route %s: %s", target.Route, local.Printable(misfit.Error()))
	case errors.Is(err, reflection.ErrMissing):
		return nil, errNoMethod(target, method)
	}
	return nil, local.Errorf(codes.Unavailable, local.ReasonDecodeFailed, "the schema of route %s: %s", target.Route, local.Printable(err.Error()))
}

// misfitError says that the route's rules do not fit the schema of an endpoint.
type misfitError struct{ err error }

func (e *misfitError) Error() string { return e.err.Error() }

// askEndpoint asks an endpoint of the call's backend for the schema of the method's service, and compiles the route's rules
// for it.
func (m *Mode) askEndpoint(ctx context.Context, prog *program, target *cluster.Target, method string) (*rule.Compiled, error) {
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	address, name, err := target.Probe()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	room := new(answerRoom)
	room.open(ctx, m.cfg.Budget, cancel)
	defer room.free()
	set, err := reflection.Fetch(ctx, func(ctx context.Context, method string) (reflection.Stream, error) {
		host := cmp.Or(target.Authority, name, health.AuthorityOf(address))
		up, err := m.cfg.Open(ctx, target, address, &transport.Header{Authority: host, Method: method})
		if err != nil {
			return nil, err
		}
		s := &reflectionStream{up: up, room: room}
		s.redirect = frame.Redirect{Src: up, Taker: s, MaxBytes: reflection.MaxBytes, Share: &room.receiving}
		return s, nil
	}, service)
	if err != nil {
		return nil, err
	}
	s, err := schema.FromSet(set)
	if err != nil {
		return nil, err
	}
	rules, err := rule.CompileService(prog.reflected, s.Files())
	if err != nil {
		m.cfg.Log.Error("the rules of a route do not fit the schema of its endpoint", "route", target.Route, "endpoint", address, "error", err)
		return nil, &misfitError{err}
	}
	return rules, nil
}

// reflectionStream implements reflection.Stream over a stream to an endpoint. It is the Taker of its own Redirect, which
// reads the endpoint's messages.
type reflectionStream struct {
	up       stream.Upstream
	room     *answerRoom
	redirect frame.Redirect
	got      []byte // the last message, set by TakeMessage
}

// Send implements reflection.Stream.
func (s *reflectionStream) Send(msg []byte) error {
	p := frame.KeptPiece(frame.PrefixLen + len(msg))
	p[0] = 0
	binary.BigEndian.PutUint32(p[1:], uint32(len(msg)))
	copy(p[frame.PrefixLen:], msg)
	return s.up.Write(p)
}

// Recv implements reflection.Stream.
func (s *reflectionStream) Recv() ([]byte, error) {
	switch end, err := s.redirect.Step(); {
	case err != nil:
		return nil, err
	case end:
		if st := s.up.Status(); st.Code() != codes.OK {
			return nil, st.Err()
		}
		return nil, io.EOF
	}
	return s.got, nil
}

// TakeMessage implements frame.Taker: it copies the message for Recv, and forwards nothing.
func (s *reflectionStream) TakeMessage(flag byte, payload []byte) ([]byte, bool, error) {
	if flag != 0 {
		return nil, false, frame.ErrBadFlag // the request had no grpc-accept-encoding
	}
	if err := s.Take(int64(len(payload))); err != nil {
		return nil, false, err
	}
	s.got = append([]byte{}, payload...)
	return nil, false, nil
}

// Take implements reflection.Taker.
func (s *reflectionStream) Take(n int64) error { return s.room.kept.Take(n) }

// Close implements reflection.Stream.
func (s *reflectionStream) Close() { s.up.Close() }

// answerRoom is what the answers of an endpoint take of the budget until the rules are compiled.
type answerRoom struct {
	call            budget.Call
	receiving, kept budget.Share
	cancel          context.CancelCauseFunc
}

func (r *answerRoom) open(ctx context.Context, b *budget.Budget, cancel context.CancelCauseFunc) {
	r.cancel = cancel
	r.call.Open(ctx, b, r)
	r.receiving.Of(&r.call)
	r.kept.Of(&r.call)
}

// Evict implements budget.Owner.
func (r *answerRoom) Evict() { r.cancel(budget.ErrOver) }

func (r *answerRoom) free() {
	r.receiving.Free()
	r.kept.Free()
}

// errNoMethod returns the local error of a call in struct mode whose method is not in the schema.
func errNoMethod(t *cluster.Target, method string) *local.Error {
	return local.Errorf(codes.Unimplemented, local.ReasonDecodeFailed, "the schema of route %s has no method %s", t.Route, local.Printable(method))
}

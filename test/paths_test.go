package test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/testbed"
)

// via turns a backend's address into the address that a client calls.
type via func(t testing.TB, backend string) string

func direct(_ testing.TB, backend string) string { return backend }

func proxied(t testing.TB, backend string) string {
	t.Helper()
	return testbed.NewProxy(t, testbed.RouteTo(backend)).Addr
}

// onKitex reports whether the tests' framegates have Kitex's data plane.
func onKitex() bool { return testbed.DataPlane() == conf.DataPlaneKitex }

// eachPath runs f straight to the backend, which shows that the test itself is right, and then through framegate in both
// modes. What f sends must be messages that struct mode can decode, such as text and pattern give.
func eachPath(t *testing.T, f func(t *testing.T, to via)) {
	eachFramePath(t, f)
	t.Run("struct", func(t *testing.T) { f(t, structured) })
}

// eachFramePath is eachPath without struct mode, for what only frame mode keeps.
func eachFramePath(t *testing.T, f func(t *testing.T, to via)) {
	t.Run("direct", func(t *testing.T) { f(t, direct) })
	t.Run("proxied", func(t *testing.T) { f(t, proxied) })
}

// eachMode runs f through framegate in both modes, for what is framegate's own doing.
func eachMode(t *testing.T, f func(t *testing.T, to via)) {
	t.Run("frame", func(t *testing.T) { f(t, proxied) })
	t.Run("struct", func(t *testing.T) { f(t, structured) })
}

// routesTo returns a routes document that sends every call to a backend.
type routesTo func(t testing.TB, backend string) string

// eachRoutes is eachMode for what needs the framegate itself.
func eachRoutes(t *testing.T, f func(t *testing.T, routes routesTo)) {
	t.Run("frame", func(t *testing.T) {
		f(t, func(_ testing.TB, backend string) string { return testbed.RouteTo(backend) })
	})
	t.Run("struct", func(t *testing.T) { f(t, testbed.StructRouteTo) })
}

// text returns a message that holds s.
func text(s string) []byte { return testbed.Text(s) }

// rawPair is a raw client and a raw server, with or without a framegate between them.
type rawPair struct {
	client *testbed.H2Conn
	server *testbed.H2Server
}

func newRawPair(t testing.TB, to via) rawPair {
	t.Helper()
	server := testbed.NewH2Server(t)
	return rawPair{client: testbed.DialH2(t, to(t, server.Addr)), server: server}
}

// open opens a call and returns both of its ends; the request headers have been read.
func (p rawPair) open(t testing.TB, fields testbed.Fields) (cs, ss *testbed.H2Stream, request testbed.Fields) {
	t.Helper()
	cs = p.client.Open(t, fields)
	ss = p.server.Accept(t)
	return cs, ss, ss.ReadHeaders()
}

// goPair is a grpc-go client of a grpc-go server that behaves as h.
func goPair(t testing.TB, to via, h testbed.RawHandler) *grpc.ClientConn {
	t.Helper()
	return testbed.DialGRPC(t, to(t, testbed.NewRaw(t, h)))
}

// patient returns a context for one step of a test: it ends when the step must have failed. What lives through several
// steps is given patientFor, or is a stream of call.
func patient(t testing.TB) context.Context { return patientFor(t, 1) }

// patientFor returns a context for what lives through so many steps, each of which has Patience.
func patientFor(t testing.TB, steps int) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(steps)*testbed.Patience)
	t.Cleanup(cancel)
	return ctx
}

// stepped is a stream that lives as long as its test: each message that is sent or received has Patience, all of them
// together have the time that they take.
type stepped struct {
	grpc.ClientStream
	cancel context.CancelFunc
}

// call opens a stepped stream.
func call(t testing.TB, cc *grpc.ClientConn) grpc.ClientStream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	s := stepped{cancel: cancel}
	require.NoError(t, s.step(func() (err error) { s.ClientStream, err = testbed.Call(ctx, cc); return err }))
	return s
}

func (s stepped) step(f func() error) error {
	late := time.AfterFunc(testbed.Patience, s.cancel)
	err := f()
	if !late.Stop() && err != nil {
		return fmt.Errorf("nothing in %s: %w", testbed.Patience, err)
	}
	return err
}

// SendMsg implements grpc.ClientStream.
func (s stepped) SendMsg(m any) error {
	return s.step(func() error { return s.ClientStream.SendMsg(m) })
}

// RecvMsg implements grpc.ClientStream.
func (s stepped) RecvMsg(m any) error {
	return s.step(func() error { return s.ClientStream.RecvMsg(m) })
}

// wantLocal checks that the outcome is framegate's own status: the code, the reason, and the message's beginning.
func wantLocal(t testing.TB, o testbed.Outcome, code int, reason string) {
	t.Helper()
	if o.Code() != code || o.Reason() != reason {
		t.Errorf("got status %d and framegate-error %q, want %d and %q; %s", o.Code(), o.Reason(), code, reason, o)
	}
	require.Regexp(t, "^framegate: ", o.Message(), "grpc-message")
}

// wantUpstream checks that the outcome is the upstream's status and that framegate added nothing of its own to it.
func wantUpstream(t testing.TB, o testbed.Outcome, code int, message string) {
	t.Helper()
	if o.Code() != code || o.Message() != message {
		t.Errorf("got status %d %q, want %d %q; %s", o.Code(), o.Message(), code, message, o)
	}
	require.Empty(t, o.Trailers.Values("framegate-error"), "framegate-error on an upstream's status")
	require.LessOrEqual(t, len(o.Trailers.Values("grpc-message")), 1, "grpc-message fields")
	require.Len(t, o.Trailers.Values("grpc-status"), 1, "grpc-status fields")
}

package chaos

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/framegate/framegate/test/testbed"
)

// What the scenarios rely on: the load alone is good, and the servers count what comes.

func callOnce(t *testing.T, cc *grpc.ClientConn, id uint64, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, IDKey, strconv.FormatUint(id, 10))
	return cc.Invoke(ctx, UnaryMethod, wrapperspb.Bytes(payload), new(wrapperspb.BytesValue))
}

func TestLoad_WithoutFramegateIsGoodAndComesOnce(t *testing.T) {
	b := NewBackend(t)
	l := StartLoad(t, b.Address(), LoadConfig{})
	l.Run(2 * time.Second)
	r := l.Stop()
	require.NoError(t, r.KeptRate())
	w := r.Where("all", func(Call) bool { return true })
	t.Log(w)
	require.Zero(t, w.Lost())
	require.InDelta(t, 1000, w.Calls, 100)
	require.Zero(t, r.Summary(r.Begun).Broken)
	require.Greater(t, r.Summary(r.Begun).Pongs, 200)
	seen := b.Seen()
	require.Len(t, seen, w.Calls+50)
	for id, n := range seen {
		require.Equal(t, 1, n, "call %d", id)
	}
}

func TestBackend_CountsOutliveKill(t *testing.T) {
	b := NewBackend(t)
	cc := Dial(t, b.Address())
	require.NoError(t, callOnce(t, cc, 7, patience))
	require.NoError(t, callOnce(t, cc, 7, patience))
	b.Kill()
	require.Equal(t, codes.Unavailable, status.Code(callOnce(t, cc, 8, patience)))
	require.Equal(t, Seen{7: 2}, b.Seen())

	b.Start()
	testbed.Poll(t, func() error { return callOnce(t, cc, 9, time.Second) })
	require.Equal(t, 2, b.Seen()[7])
	require.Positive(t, b.Seen()[9])
}

func TestBackend_StoppedSaysNothingUntilItContinues(t *testing.T) {
	b := NewBackend(t)
	cc := Dial(t, b.Address())
	require.NoError(t, callOnce(t, cc, 1, patience))
	b.Stop()
	require.Equal(t, codes.DeadlineExceeded, status.Code(callOnce(t, cc, 2, 200*time.Millisecond)))
	require.Equal(t, Seen{1: 1}, b.Seen())
	b.Continue()
	require.NoError(t, callOnce(t, cc, 3, patience))
}

func TestBackend_TerminatedFinishesItsCalls(t *testing.T) {
	b := NewBackend(t)
	cc := Dial(t, b.Address())
	ctx := metadata.AppendToOutgoingContext(t.Context(), IDKey, "1", DelayKey, "200ms")
	ended := make(chan error, 1)
	go func() { ended <- cc.Invoke(ctx, UnaryMethod, wrapperspb.Bytes(nil), new(wrapperspb.BytesValue)) }()
	testbed.Poll(t, func() error {
		if b.Seen()[1] == 0 {
			return status.Error(codes.Unknown, "the call has not come")
		}
		return nil
	})
	b.Terminate()
	require.NoError(t, testbed.Await(t, ended, "the end of the call"))
}

func rawRequest(id string) testbed.Fields {
	return testbed.RequestFields(IDKey, id).Replace(":path", UnaryMethod)
}

func TestRaw_PoliteAnswersAsABackendDoes(t *testing.T) {
	r := NewRaw(t, RawConfig{})
	l := StartLoad(t, r.Address(), LoadConfig{Rate: 100, Streams: 4})
	l.Run(500 * time.Millisecond)
	got := l.Stop()
	w := got.Where("all", func(Call) bool { return true })
	require.Zero(t, w.Lost(), w)
	require.Zero(t, got.Summary(got.Begun).Broken)
	require.Len(t, r.Seen(), w.Calls+4)
}

func TestRaw_RefusesAndDoesNotCount(t *testing.T) {
	r := NewRaw(t, RawConfig{})
	r.Become(Refuses)
	code, _ := testbed.DialH2(t, r.Address()).OpenEnd(t, rawRequest("1")).AwaitReset()
	require.Equal(t, http2.ErrCodeRefusedStream, code)
	require.Empty(t, r.Seen())
	require.Equal(t, 1, r.Refused())
}

func TestRaw_ResetsAfterHeaders(t *testing.T) {
	r := NewRaw(t, RawConfig{})
	r.Become(Resets)
	o := testbed.DialH2(t, r.Address()).OpenEnd(t, rawRequest("1")).Outcome()
	require.Equal(t, "200", o.Headers.Get(":status"))
	require.NotNil(t, o.Reset)
	require.Equal(t, http2.ErrCodeInternal, *o.Reset)
	require.Equal(t, Seen{1: 1}, r.Seen())
}

func TestRaw_GoAwayNamesTheLastStreamAndServesNoFurther(t *testing.T) {
	r := NewRaw(t, RawConfig{GoAwayEvery: 2})
	c := testbed.DialH2(t, r.Address())
	first, second, third := c.OpenEnd(t, rawRequest("1")), c.OpenEnd(t, rawRequest("2")), c.OpenEnd(t, rawRequest("3"))
	require.Equal(t, testbed.GoAway{LastStreamID: second.ID, Code: http2.ErrCodeNo}, c.AwaitGoAway(t))
	require.Zero(t, first.Outcome().Code())
	require.Zero(t, second.Outcome().Code())
	require.Equal(t, "[]", third.History())
	require.Equal(t, Seen{1: 1, 2: 1}, r.Seen())
	require.Equal(t, 1, r.GoAways())
}

func TestRaw_RefusesStreamsAboveItsLimit(t *testing.T) {
	r := NewRaw(t, RawConfig{LimitStreams: true, MaxStreams: 1})
	c := testbed.DialH2(t, r.Address())
	open := c.Open(t, rawRequest("1"))
	code, _ := c.OpenEnd(t, rawRequest("2")).AwaitReset()
	require.Equal(t, http2.ErrCodeRefusedStream, code)
	open.SendEnd(testbed.Frame(nil))
	require.Zero(t, open.Outcome().Code())
	require.Equal(t, Seen{1: 1}, r.Seen())
}

func TestReport_TellsThatTheHarnessWasTooSlow(t *testing.T) {
	now := time.Now()
	r := &Report{Planned: 100}
	for range 100 {
		r.Calls = append(r.Calls, Call{Due: now, Begun: now.Add(10 * time.Millisecond)})
	}
	require.NoError(t, r.KeptRate())
	r.Planned = 110
	require.ErrorContains(t, r.KeptRate(), "the harness, not framegate: 100 of 110 calls were made")
	r.Planned = 100
	for i := range 2 {
		r.Calls[i].Begun = now.Add(time.Second)
	}
	require.ErrorContains(t, r.KeptRate(), "the harness, not framegate: 1% of the calls began more than 1s late")
}

func TestReport_WindowCountsByCodeAndReason(t *testing.T) {
	now := time.Now()
	call := func(at int, code codes.Code, reason string) Call {
		begun := now.Add(time.Duration(at) * time.Second)
		ended := begun.Add(time.Duration(at) * time.Millisecond)
		return Call{Due: begun, Begun: begun, Ended: ended, outcome: outcome{code, reason, "why"}}
	}
	r := &Report{Calls: []Call{
		call(0, codes.Unavailable, "x"), // before the window
		call(1, codes.OK, ""), call(2, codes.OK, ""),
		call(3, codes.Unavailable, "connect_failed"), call(4, codes.Unavailable, ""),
		call(5, codes.Unavailable, "x"), // after it
	}}
	w := r.Between("some", now.Add(time.Second), now.Add(5*time.Second))
	require.Equal(t, map[string]int{"Unavailable/connect_failed": 1, "Unavailable": 1}, w.Outcomes)
	require.Equal(t, 2, w.Lost())
	require.InDelta(t, 0.5, w.Share(), 1e-9)
	require.Equal(t, 2*time.Millisecond, w.P99)
}

func TestPlan_DocumentIsARouteWithItsKeys(t *testing.T) {
	p := plan{route: []string{"timeout: 3s"}, backend: []string{"weight: 4"}}
	mute := NewMute(t)
	require.Equal(t, "routes:\n- name: all\n  match: [{method: \"*\"}]\n  timeout: 3s\n  backends:\n  - name: only\n"+
		"    endpoints:\n    - address: \""+mute.Address()+"\"\n    weight: 4\n", p.document(mute))
	testbed.NewProxy(t, p.document(mute))
}

package test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

const (
	cancelLimit    = 200 * time.Millisecond
	cancelAttempts = 3
)

// callStates bring a call to where it is cancelled: in each, framegate's copying of one or both directions waits for
// something else.
var callStates = map[string]struct {
	client, server []testbed.H2Option
	enter          func(cs, ss *testbed.H2Stream)
}{
	"nothing sent": {enter: func(_, _ *testbed.H2Stream) {}},
	"idle stream": {enter: func(cs, ss *testbed.H2Stream) {
		cs.Send(testbed.Frame(text("request")))
		ss.WantMessage(string(text("request")))
		ss.SendHeaders(testbed.ResponseFields())
		ss.Send(testbed.Frame(text("response")))
		cs.ReadHeaders()
		cs.WantMessage(string(text("response")))
	}},
	"half-closed": {enter: func(cs, ss *testbed.H2Stream) {
		cs.SendEnd(testbed.Frame(text("request")))
		ss.WantMessage(string(text("request")))
		ss.WantEnd()
	}},
	"within a message": {enter: func(cs, ss *testbed.H2Stream) {
		cs.Send(testbed.Prefix(0, 1000))
		ss.SendHeaders(testbed.ResponseFields())
		ss.Send(testbed.Prefix(0, 1000))
		cs.ReadHeaders()
	}},
	"upstream does not read": {
		server: []testbed.H2Option{testbed.HoldWindows()},
		enter:  func(cs, ss *testbed.H2Stream) { fill(cs, ss) },
	},
	"client does not read": {
		client: []testbed.H2Option{testbed.HoldWindows()},
		enter: func(cs, ss *testbed.H2Stream) {
			ss.SendHeaders(testbed.ResponseFields())
			fill(ss, cs)
		},
	},
}

// fill sends more than the other end has room for, until all that lies between is full too.
func fill(from, to *testbed.H2Stream) {
	message := testbed.Frame(pattern(1<<20, 0)) // struct mode takes one whole before it sends any of it
	from.Send(message[:1000])
	go from.TrySend(append(message[1000:], bytes.Repeat(message, 3)...)) // ends with the stream or the connection; the test does not wait for it
	to.AwaitBytes(65535)
	from.AwaitBlocked()
}

// requireAtOnce wants one of a few cancels to reach the upstream in cancelLimit: a loaded machine is late now and then, a
// missing wake-up is always late.
func requireAtOnce(t *testing.T, cancel func() time.Duration) {
	t.Helper()
	var took []time.Duration
	for range cancelAttempts {
		took = append(took, cancel())
		if slices.Min(took) <= cancelLimit {
			return
		}
	}
	t.Errorf("got RST_STREAM at the upstream after %s, want at most %s", took, cancelLimit)
}

// A cancelled call is reset at the upstream at once, not when something else happens to look at it (Kitex's own check
// comes every five seconds).
func TestCancel_ReachesTheUpstreamAtOnce(t *testing.T) {
	for cancelName, cancel := range map[string]func(p rawPair, cs *testbed.H2Stream){
		"RST_STREAM":        func(_ rawPair, cs *testbed.H2Stream) { cs.Reset(http2.ErrCodeCancel) },
		"connection closed": func(p rawPair, _ *testbed.H2Stream) { p.client.Close() },
	} {
		for stateName, state := range callStates {
			t.Run(cancelName+"/"+stateName, func(t *testing.T) {
				eachPath(t, func(t *testing.T, to via) {
					server := testbed.NewH2Server(t, state.server...)
					target := to(t, server.Addr)
					requireAtOnce(t, func() time.Duration {
						p := rawPair{client: testbed.DialH2(t, target, state.client...), server: server}
						cs, ss, _ := p.open(t, testbed.RequestFields())
						state.enter(cs, ss)
						start := time.Now()
						cancel(p, cs)
						_, at := ss.AwaitReset()
						return at.Sub(start)
					})
				})
			})
		}
	}
}

// One call's cancel leaves the other calls of the connection alone.
func TestCancel_LeavesOtherCallsAlone(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		cs1, ss1, _ := p.open(t, testbed.RequestFields())
		cs2, ss2, _ := p.open(t, testbed.RequestFields())
		cs1.Reset(http2.ErrCodeCancel)
		ss1.AwaitReset()
		cs2.SendEnd(testbed.Frame(text("request")))
		ss2.WantMessage(string(text("request")))
		ss2.SendHeaders(testbed.ResponseFields())
		ss2.SendTrailers(testbed.StatusFields(0, ""))
		wantUpstream(t, cs2.Outcome(), 0, "")
	})
}

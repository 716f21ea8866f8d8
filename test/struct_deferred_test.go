package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

// deferredRoute is a route whose rules choose among two backends by the first message.
func deferredRoute(t testing.TB, ordinary, vip, rules string) string {
	t.Helper()
	return fmt.Sprintf(`routes:
- name: all
  match: [{method: "*"}]
  backends:
  - {name: main, endpoints: [{address: %q}]}
  - {name: vip, weight: 0, endpoints: [{address: %q}]}
  mode: struct
  schema: {files: [%q]}
  struct: {rules: [%s]}
`, ordinary, vip, protoFile(t, rawProto), rules)
}

const vipRules = `{on: request, when: 'message.text.startsWith("vip")', action: route, backend: vip},
    {on: request, when: 'message.text.startsWith("vip")', action: header, set: {x-first: 'message.text', x-new: '"1"'}},
    {on: request, when: 'message.text.endsWith("spam")', action: drop}`

// deferredPair is a client of a framegate with deferredRoute, and its two backends.
func deferredPair(t *testing.T) (proxy *testbed.Proxy, client *testbed.H2Conn, main, vip *testbed.H2Server) {
	t.Helper()
	main, vip = testbed.NewH2Server(t), testbed.NewH2Server(t)
	proxy = testbed.NewProxy(t, deferredRoute(t, main.Addr, vip.Addr, vipRules))
	return proxy, testbed.DialH2(t, proxy.Addr), main, vip
}

func TestStruct_FirstMessageDecidesTheBackend(t *testing.T) {
	t.Parallel()
	_, client, ordinary, vip := deferredPair(t)
	for _, c := range []struct {
		name   string
		server *testbed.H2Server
		sent   []string
		first  []string
		want   []string
	}{
		{"chosen", vip, []string{"vip a", "b"}, []string{"vip a"}, []string{"vip a", "b"}},
		{"not chosen by a later one", ordinary, []string{"a", "vip b"}, nil, []string{"a", "vip b"}},
		{"without the dropped", ordinary, []string{"spam", "a"}, nil, []string{"a"}},
		{"chosen behind a dropped one", vip, []string{"spam", "vip a"}, []string{"vip a"}, []string{"vip a"}},
		{"not chosen by a dropped one", ordinary, []string{"vip spam", "a"}, nil, []string{"a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cs := client.Open(t, testbed.RequestFields("x-first", "client"))
			for _, m := range c.sent {
				cs.Send(testbed.Frame(text(m)))
			}
			cs.SendEnd(nil)
			ss := c.server.Accept(t)
			require.Equal(t, c.first, ss.ReadHeaders().Values("x-first"))
			for _, m := range c.want {
				ss.WantMessage(string(text(m)))
			}
			ss.WantEnd()
			ss.SendTrailers(append(testbed.ResponseFields(), testbed.StatusFields(0, "")...))
			wantUpstream(t, cs.Outcome(), 0, "")
		})
	}
	t.Run("a request of no message", func(t *testing.T) {
		cs := client.OpenEnd(t, testbed.RequestFields())
		ss := ordinary.Accept(t)
		ss.ReadHeaders()
		ss.WantEnd()
		ss.SendTrailers(append(testbed.ResponseFields(), testbed.StatusFields(0, "")...))
		wantUpstream(t, cs.Outcome(), 0, "")
	})
	t.Run("all messages dropped", func(t *testing.T) {
		cs := client.Open(t, testbed.RequestFields())
		cs.Send(testbed.Frame(text("spam")))
		cs.SendEnd(testbed.Frame(text("vip spam")))
		ss := ordinary.Accept(t)
		require.False(t, ss.ReadHeaders().Has("x-first"))
		ss.WantEnd()
		ss.SendTrailers(append(testbed.ResponseFields(), testbed.StatusFields(0, "")...))
		wantUpstream(t, cs.Outcome(), 0, "")
	})
}

// While the first message is waited for there is no endpoint yet: the call ends as any other.
func TestStruct_CallEndsWhileTheFirstMessageIsWaitedFor(t *testing.T) {
	t.Parallel()
	t.Run("deadline", func(t *testing.T) {
		const timeout = 200 * time.Millisecond
		_, client, _, _ := deferredPair(t)
		for _, body := range [][]byte{nil, testbed.Prefix(0, 10)} {
			start := time.Now()
			cs := client.Open(t, testbed.RequestFields("grpc-timeout", "200m"))
			cs.Send(body)
			o := cs.Outcome()
			wantLocal(t, o, 4, "timeout")
			require.Less(t, o.At.Sub(start), timeout+inTime)
		}
	})
	t.Run("drain", func(t *testing.T) {
		proxy, client, _, _ := deferredPair(t)
		waiting := client.Open(t, testbed.RequestFields())
		cs := client.Open(t, testbed.RequestFields("grpc-timeout", "50m")) // when it has ended, the one before is there
		wantLocal(t, cs.Outcome(), 4, "timeout")
		proxy.Stop()
		wantLocal(t, waiting.Outcome(), 14, "draining")
	})
	t.Run("half-close within the message", func(t *testing.T) {
		_, client, _, _ := deferredPair(t)
		cs := client.Open(t, testbed.RequestFields())
		cs.SendEnd(testbed.Prefix(0, 10))
		wantLocal(t, cs.Outcome(), 13, "bad_request_framing")
	})
	t.Run("message over the limit", func(t *testing.T) {
		_, client, _, _ := deferredPair(t)
		cs := client.Open(t, testbed.RequestFields())
		cs.Send(testbed.Prefix(0, 0xFFFFFFFF))
		wantLocal(t, cs.Outcome(), 8, "message_too_large")
	})
	t.Run("cancel", func(t *testing.T) {
		_, client, ordinary, _ := deferredPair(t)
		cs := client.Open(t, testbed.RequestFields())
		cs.Send(testbed.Prefix(0, 10))
		cs.Reset(http2.ErrCodeCancel)
		other := client.Open(t, testbed.RequestFields()) // the connection goes on
		other.SendEnd(testbed.Frame(text("a")))
		ss := ordinary.Accept(t)
		ss.ReadHeaders()
		ss.WantMessage(string(text("a")))
		ss.SendTrailers(append(testbed.ResponseFields(), testbed.StatusFields(0, "")...))
		wantUpstream(t, other.Outcome(), 0, "")
	})
}

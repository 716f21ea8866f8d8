package test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/testbed"
)

// A message that is refused is not counted as forwarded, nor is what comes behind it.
func TestRefusedMessage_IsNotCounted(t *testing.T) {
	t.Parallel()
	for path, keys := range map[string]string{"relayed": "", "handled": "retry: {attempts: 2}"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			server := testbed.NewH2Server(t)
			proxy := testbed.NewProxy(t, testbed.RouteWith(server.Addr, keys), testbed.On(conf.DataPlaneRelay), testbed.MaxMessageBytes(1000), testbed.Admin())
			cs := testbed.DialH2(t, proxy.Addr).Open(t, testbed.RequestFields())
			cs.Send(testbed.Frame(make([]byte, 1001)))
			_ = cs.TrySend([]byte("more"))
			wantLocal(t, cs.Outcome(), 8, "message_too_large")
			testbed.Poll(t, func() error {
				if n := callsOf(t, proxy); n != 1 {
					return fmt.Errorf("%d calls, want 1", n)
				}
				return nil
			})
			metrics := scraped(t, proxy)
			for _, name := range []string{"messages", "bytes"} {
				require.Contains(t, metrics, fmt.Sprintf("framegate_%s_total{backend=\"\",direction=\"request\",route=\"all\"} 0\n", name))
			}
		})
	}
}

package hostile

import (
	"testing"
	"time"

	"github.com/framegate/framegate/test/chaos"
	"github.com/framegate/framegate/test/testbed"
)

// Kitex's data plane serves the health checks of a relay listener, and once looked for stuck clients among the relay's: half a
// minute after the first check the process was gone. It looks sooner if the keepalive is shorter.
func TestHealth_ChecksDoNotEndTheProcess(t *testing.T) {
	const looks = 500 * time.Millisecond // a quarter of the keepalive's times
	f := chaos.StartFramegate(t, chaos.FramegateConfig{
		Address: chaos.FreeAddress(t), Listener: "data_plane: relay, keepalive: {time: 1s, timeout: 1s}", Routes: "routes: []",
	})
	c := testbed.DialH2(t, f.Address)
	wantHealthy(t, c)
	<-time.After(3 * looks)
	wantHealthy(t, c)
}

package chaos

import (
	"testing"
	"time"
)

// A new framegate takes over the port of the one that runs, which is then told to end: SO_REUSEPORT lets both listen.
// Some calls come on connections of their own, of which some are being accepted while the listener goes.
func TestFramegateRestart_LosesNoUnaryCall(t *testing.T) {
	t.Parallel()
	backends := three(t)
	c := FramegateConfig{
		Address: FreeAddress(t), Listener: "reuse_port: true", Routes: defaults.document(asServers(backends)...),
		DrainTimeout: 2 * time.Second,
	}
	old := StartFramegate(t, c)
	s := beginAt(t, c.Address, LoadConfig{FreshRate: 25}, defaults, asServers(backends)...)
	s.fault(func() {
		for range 2 {
			next := StartFramegate(t, c)
			old.Terminate()
			s.load.Run(500 * time.Millisecond) // calls go on meanwhile
			old.Wait()
			old = next
		}
	})
	s.end(time.Second)
	s.wantNoneLost(s.all())
}

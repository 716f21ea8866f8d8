package testbed

import "testing"

// A test may end before its server has begun to serve; -race sees whether that is in order.
func TestEcho_IsStoppedAtOnce(t *testing.T) {
	for range 5 {
		_, stop := StartEcho(t, &Echo{})
		stop()
	}
}

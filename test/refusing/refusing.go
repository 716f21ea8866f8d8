// Package refusing gives tests an address that refuses connections.
package refusing

import "testing"

// Address returns an address of 127.0.0.1 on which nobody listens. On Linux nobody else gets it either while the test
// runs: a port that is free is soon somebody's.
func Address(t testing.TB) string {
	t.Helper()
	address, err := reserve(t.Cleanup)
	if err != nil {
		t.Fatalf("refusing: %v", err)
	}
	return address
}

// Package refusing gives tests an address that refuses connections.
package refusing

import "testing"

// Address returns an address of 127.0.0.1 on which nobody listens. On Linux it is reserved while the test runs, because a
// free port would soon be taken by another test.
func Address(t testing.TB) string {
	t.Helper()
	address, err := reserve(t.Cleanup)
	if err != nil {
		t.Fatalf("refusing: %v", err)
	}
	return address
}

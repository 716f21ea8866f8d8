package testbed

import (
	"testing"

	"golang.org/x/net/http2"
)

// NewResetting starts a backend that ends each call with RST_STREAM, and returns its address.
func NewResetting(t testing.TB) string {
	t.Helper()
	return ServeH2(t, func(s *H2Stream) func() {
		return func() { _ = s.TryReset(http2.ErrCodeInternal) } // fails only when the connection has ended
	}).Addr
}

// NewBreaking starts a backend that closes the connection on which a call comes, and returns its address.
func NewBreaking(t testing.TB) string {
	t.Helper()
	return ServeH2(t, func(s *H2Stream) func() { return s.Conn().Close }).Addr
}

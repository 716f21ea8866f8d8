package main

import (
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tool measures what it says: without a framegate between, all is good.
func TestHold_CountsCallsThatAreAnswered(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- serve(ln) }()
	got, err := hold(ln.Addr().String(), 2000)
	require.NoError(t, err)
	require.InEpsilon(t, 2000, got.sent, 0.1)
	require.InEpsilon(t, 2000, got.good, 0.1)
	require.Zero(t, got.refused)
	require.NoError(t, ln.Close())
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

package loopback

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAddress_MayBeListenedAtAgainAndAgain(t *testing.T) {
	address := Address(t)
	require.NotEqual(t, address, Address(t))
	for range 3 {
		_, err := net.Dial("tcp", address)
		require.ErrorContains(t, err, "refused")
		ln, err := net.Listen("tcp", address)
		require.NoError(t, err)
		client, err := net.Dial("tcp", address)
		require.NoError(t, err)
		server, err := ln.Accept()
		require.NoError(t, err)
		require.NoError(t, server.Close()) // the port is left in TIME_WAIT
		require.NoError(t, client.Close())
		require.NoError(t, ln.Close())
	}
}

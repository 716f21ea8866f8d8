package refusing

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAddress_RefusesConnectionsAndIsTaken(t *testing.T) {
	address := Address(t)
	_, err := net.Dial("tcp", address)
	require.ErrorContains(t, err, "refused")
	require.NotEqual(t, address, Address(t))
}

package pool

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLayout_IsTheOneInUse(t *testing.T) { require.NoError(t, CheckLayout()) }

func TestLayout_StreamIDIsTheOneOnTheWire(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, nil)
	for range 5 {
		s := open(t, p, server.addr)
		id := receive(t, "a stream", server.all()[0].streams)
		require.Equal(t, id, streamID(s.Stream))
		s.Close()
	}
}

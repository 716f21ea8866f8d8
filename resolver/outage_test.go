package resolver

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOutage_LogsAtMostOnceAMinute(t *testing.T) {
	log := &logBuffer{}
	o := newOutage(log.logger(), "etcd:2379")
	for range 100 {
		o.failed(t.Context(), "routes", io.ErrUnexpectedEOF)
		o.failed(t.Context(), "instances", io.ErrUnexpectedEOF)
	}
	require.Equal(t, 1, log.count("etcd cannot be used"))
	require.Equal(t, "unexpected EOF", o.reason())
	o.over("routes")
	require.Zero(t, log.count("etcd can be used again"), "half of it cannot")
	require.Equal(t, "unexpected EOF", o.reason())
	o.over("instances")
	o.over("instances")
	require.Equal(t, 1, log.count("etcd can be used again"))
	require.Empty(t, o.reason())
	o.failed(t.Context(), "routes", io.ErrUnexpectedEOF)
	o.over("routes")
	require.Equal(t, 1, log.count("etcd cannot be used"), "a flapping etcd")
	require.Equal(t, 1, log.count("etcd can be used again"), "only the end of what was logged is logged")
	o.logged = o.logged.Add(-outageLogInterval)
	o.failed(t.Context(), "routes", io.ErrUnexpectedEOF)
	require.Equal(t, 2, log.count("etcd cannot be used"))
}

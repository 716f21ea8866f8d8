package etcdsource

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/testlog"
)

func TestReachability_LogsAtMostOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &testlog.Buffer{}
		r := newReachability(log.Logger(), "etcd:2379")
		for range 100 {
			r.failed(t.Context(), "routes", io.ErrUnexpectedEOF)
			r.failed(t.Context(), "instances", io.ErrUnexpectedEOF)
		}
		require.Equal(t, 1, log.Count("etcd cannot be used"))
		require.Equal(t, "unexpected EOF", r.reason())
		r.recovered("routes")
		require.Zero(t, log.Count("etcd can be used again"), "half of it cannot")
		require.Equal(t, "unexpected EOF", r.reason())
		r.recovered("instances")
		r.recovered("instances")
		require.Equal(t, 1, log.Count("etcd can be used again"))
		require.Empty(t, r.reason())
		r.failed(t.Context(), "routes", io.ErrUnexpectedEOF)
		r.recovered("routes")
		require.Equal(t, 1, log.Count("etcd cannot be used"), "a flapping etcd")
		require.Equal(t, 1, log.Count("etcd can be used again"), "only the end of what was logged is logged")
		time.Sleep(outageLogInterval)
		r.failed(t.Context(), "routes", io.ErrUnexpectedEOF)
		require.Equal(t, 2, log.Count("etcd cannot be used"))
	})
}

// While etcd is down nobody reads that all is read again.
func TestFollower_TellsThatItReadAllAgainWhenItHas(t *testing.T) {
	log := &testlog.Buffer{}
	f := newFollower[*spec.Route]("routes", "/p/", newReachability(log.Logger(), "e"), log.Logger())
	f.readAgain()
	f.ended(t.Context(), errReplaced)
	f.ended(t.Context(), errDue)
	require.Empty(t, log.String())
	f.readAgain()
	f.readAgain()
	require.Equal(t, 1, log.Count("all routes in etcd were read again"), log.String())
	require.Contains(t, log.String(), errReplaced.Error())
}

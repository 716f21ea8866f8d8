package sink

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/testlog"
)

func TestState_LogsChangesAndThatItIsStillDownOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log testlog.Buffer
		s := newState(Config{Name: "tape", Log: log.Logger()}, "kafka")
		now, reason := s.get()
		require.Equal(t, []string{StateNew, ""}, []string{now, reason})
		for range 10 * 60 {
			s.failed(connecting, errors.New("no route\nto host"))
			time.Sleep(time.Second)
		}
		now, reason = s.get()
		require.Equal(t, []string{StateDown, `no route\nto host`}, []string{now, reason})
		require.Equal(t, 1, log.Count(`msg="mirror is down" mirror=tape kind=kafka error="no route`), log.String())
		require.Equal(t, 9, log.Count(`msg="mirror is still down"`), log.String())
		s.ok(delivering)
		s.ok(connecting)
		now, reason = s.get()
		require.Equal(t, []string{StateUp, ""}, []string{now, reason})
		require.Equal(t, 1, log.Count(`level=INFO msg="mirror is up"`), log.String())
	})
}

func TestState_ConnectingDoesNotEndAFailureToDeliver(t *testing.T) {
	t.Parallel()
	s := newState(Config{}, "kafka")
	s.failed(delivering, errors.New("not authorized"))
	s.ok(connecting)
	s.failed(connecting, errors.New("timeout"))
	now, reason := s.get()
	require.Equal(t, []string{StateDown, "not authorized"}, []string{now, reason})
	s.ok(delivering)
	s.failed(connecting, errors.New("timeout"))
	s.ok(connecting)
	now, _ = s.get()
	require.Equal(t, StateUp, now)
}

func TestState_ThatChangesAllTheTimeDoesNotFillTheLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log testlog.Buffer
		s := newState(Config{Log: log.Logger()}, "kafka")
		for range 600 {
			s.failed(delivering, errors.New("x"))
			s.ok(delivering)
			time.Sleep(time.Second)
		}
		lines := log.Count("\n")
		require.Less(t, lines, 30, log.String())
		require.Greater(t, lines, 10)
		require.Positive(t, log.Count("changes_not_logged="), log.String())
	})
}

func TestState_BoundsTheTextOfAServer(t *testing.T) {
	t.Parallel()
	s := newState(Config{}, "elasticsearch")
	s.failed(delivering, errors.New(strings.Repeat("é", 10_000)))
	_, reason := s.get()
	require.Less(t, len(reason), 2*maxReason)
}

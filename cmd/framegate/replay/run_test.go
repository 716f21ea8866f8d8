package replay

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/framegate/framegate/handler/mirror/tape"
	v1 "github.com/framegate/framegate/kitex_gen/framegate/v1"
	"github.com/framegate/framegate/test/testbed"
)

// record writes a recording with those entries.
func record(t *testing.T, entries ...*v1.TapeEntry) string {
	t.Helper()
	var b []byte
	for _, e := range append([]*v1.TapeEntry{{Header: &v1.TapeHeader{Version: 1, Route: "r", Mirror: "m", Time: 1}}}, entries...) {
		body, err := e.Marshal(nil)
		require.NoError(t, err)
		b = append(binary.AppendUvarint(b, uint64(len(body))), body...)
	}
	name := filepath.Join(t.TempDir(), "a"+tape.Suffix)
	require.NoError(t, os.WriteFile(name, b, 0o600))
	return name
}

// The entries of a call, at nanoseconds.
func began(id, method string, at int64) *v1.TapeEntry {
	return &v1.TapeEntry{Call: &v1.TapeCall{Call: id, Time: at, Method: method}}
}

func message(id string, at int64, response bool) *v1.TapeEntry {
	return &v1.TapeEntry{Message: &v1.TapeMessage{Call: id, Time: at, Response: response, Payload: []byte(id)}}
}

func halfClosed(id string, at int64) *v1.TapeEntry {
	return &v1.TapeEntry{HalfClose: &v1.TapeHalfClose{Call: id, Time: at}}
}

func ended(id string, at int64) *v1.TapeEntry {
	return &v1.TapeEntry{End: &v1.TapeEnd{Call: id, Time: at}}
}

// newEcho starts a target that answers each message with an echo of it.
func newEcho(t *testing.T) string {
	return testbed.NewRaw(t, func(s grpc.ServerStream) error {
		for {
			m, err := testbed.Recv(s)
			if err != nil {
				return nil
			}
			if err := testbed.Send(s, m); err != nil {
				return err
			}
		}
	})
}

// runAt makes the calls of recordings at a target.
func runAt(t *testing.T, target string, cfg Config) *Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testbed.Patience)
	defer cancel()
	cfg.Target, cfg.Timeout = target, testbed.Patience
	report, err := Run(ctx, cfg)
	require.NoError(t, err)
	return report
}

// Calls that overlap are made, however few may be under way: what is recorded of those that wait is read, because the others may need
// what comes behind it.
func TestRun_MoreOverlappingCallsThanMayBeUnderWay(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 2, 7, 100} {
		var all []*v1.TapeEntry
		const calls = 50
		id := func(i int) string { return fmt.Sprint("call", i) }
		for i := range calls {
			all = append(all, began(id(i), testbed.Method, 1))
		}
		for i := range calls {
			all = append(all, message(id(i), 2, false), halfClosed(id(i), 3), message(id(i), 4, true), ended(id(i), 5))
		}
		for i := calls; i < 2*calls; i++ { // these do not overlap
			all = append(all, began(id(i), testbed.Method, 6), message(id(i), 6, false), halfClosed(id(i), 6), message(id(i), 6, true), ended(id(i), 6))
		}
		report := runAt(t, newEcho(t), Config{Paths: []string{record(t, all...)}, MaxConcurrent: most})
		require.Equal(t, 2*calls, report.Same, "%d may be under way: %+v", most, report)
	}
}

// A call without an end, in a file that is given twice, is two calls without an end.
func TestRun_AnIDThatComesAgain(t *testing.T) {
	t.Parallel()
	name := record(t, began("a", testbed.Method, 1), message("a", 2, false))
	report := runAt(t, newEcho(t), Config{Paths: []string{name, name}, MaxConcurrent: 1})
	require.Equal(t, 2, report.Unfinished)
	require.Zero(t, report.Calls)
}

func TestRun_ASpeedThatIsNextToNothing(t *testing.T) {
	t.Parallel()
	name := record(t, began("a", testbed.Method, 1), message("a", 1e9, false), halfClosed("a", 1e9), message("a", 1e9, true), ended("a", 1e9))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := Run(ctx, Config{Paths: []string{name}, Target: newEcho(t), Speed: 1e-300, MaxConcurrent: 1, Timeout: testbed.Patience})
	require.ErrorIs(t, err, context.DeadlineExceeded, "it waits for the message")
}

// A method is sent as it was recorded.
func TestRun_OddMethods(t *testing.T) {
	t.Parallel()
	server := testbed.NewH2Server(t)
	done := make(chan *Report, 1)
	name := record(t, began("a", "/a.B/C%2e%zz?x#y", 1), halfClosed("a", 1), ended("a", 1))
	go func() { done <- runAt(t, server.Addr, Config{Paths: []string{name}, MaxConcurrent: 1}) }()
	s := server.Accept(t)
	require.Equal(t, "/a.B/C%2e%zz?x#y", s.ReadHeaders().Get(":path"))
	s.SendHeaders(testbed.ResponseFields())
	s.SendTrailers(testbed.NewFields("grpc-status", "0"))
	require.Equal(t, 1, testbed.Await(t, done, "the report").Same)
}

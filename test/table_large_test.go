package test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"runtime"
	"runtime/metrics"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

const (
	largeMessage = 64 << 20 // framegate's default max_message_bytes
	heapLimit    = 32 << 20 // how much the heap may grow while a large message passes
)

// sink takes what one raw peer receives: it keeps a hash of it and how far the heap grew meanwhile.
type sink struct {
	want int
	done chan struct{} // closed when want bytes have come

	// Owned by the connection's reader until done is closed.
	got  int
	sum  hash.Hash
	peak uint64
}

func newSink(want int) *sink {
	return &sink{want: want, done: make(chan struct{}), sum: sha256.New()}
}

func (s *sink) take(p []byte) {
	before := s.got
	s.got += len(p)
	s.sum.Write(p)
	if before>>20 != s.got>>20 {
		s.peak = max(s.peak, heapBytes())
	}
	if before < s.want && s.got >= s.want {
		close(s.done)
	}
}

func (s *sink) String() string { return fmt.Sprintf("%d bytes, sha256 %x", s.got, s.sum.Sum(nil)) }

// heapBytes returns the memory of live and not yet swept objects.
func heapBytes() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// sendLarge sends one message of size bytes in pieces and returns what the other side must have got.
func sendLarge(s *testbed.H2Stream, size int) (string, error) {
	want := newSink(size + 5)
	piece := pattern(1<<20, 9)
	send := func(p []byte) error {
		want.got += len(p)
		want.sum.Write(p)
		return s.TrySend(p)
	}
	err := send(testbed.Prefix(0, uint32(size)))
	for sent := 0; sent < size && err == nil; sent += len(piece) {
		err = send(piece)
	}
	return want.String(), err
}

// The raw peers keep nothing of the message, so what the heap holds is framegate's: pieces, not messages.
func TestLarge_RequestPassesInPieces(t *testing.T) {
	eachFramePath(t, func(t *testing.T, to via) {
		got := newSink(largeMessage + 5)
		server := testbed.NewH2Server(t, testbed.OnData(got.take))
		cs := testbed.DialH2(t, to(t, server.Addr)).Open(t, testbed.RequestFields())
		transferLarge(t, cs, got)
		ss := server.Accept(t)
		cs.SendEnd(nil)
		require.True(t, ss.Outcome().Ended, "END_STREAM at the upstream")
	})
}

func TestLarge_ResponsePassesInPieces(t *testing.T) {
	eachFramePath(t, func(t *testing.T, to via) {
		got := newSink(largeMessage + 5)
		server := testbed.NewH2Server(t)
		cs := testbed.DialH2(t, to(t, server.Addr), testbed.OnData(got.take)).Open(t, testbed.RequestFields())
		ss := server.Accept(t)
		ss.SendHeaders(testbed.ResponseFields())
		transferLarge(t, ss, got)
		ss.SendTrailers(testbed.StatusFields(0, ""))
		wantUpstream(t, cs.Outcome(), 0, "")
	})
}

func transferLarge(t *testing.T, from *testbed.H2Stream, got *sink) {
	t.Helper()
	runtime.GC()
	base := heapBytes()
	want, err := sendLarge(from, largeMessage)
	require.NoError(t, err)
	testbed.Await(t, got.done, "the whole message")
	require.Equal(t, want, got.String())
	if grown := int64(got.peak) - int64(base); grown > heapLimit {
		t.Errorf("got %d MiB more heap while %d MiB passed, want at most %d MiB", grown>>20, largeMessage>>20, heapLimit>>20)
	}
}

func TestLarge_ThroughGRPCGo(t *testing.T) {
	eachPath(t, func(t *testing.T, to via) {
		cc := goPair(t, to, echoAll)
		size := race.Choose(largeMessage, largeMessage/8) // the race detector looks at each byte, on both sides too
		request := bytes.Repeat(pattern(1<<20, 4), size>>20)
		reply, err := testbed.Unary(patientFor(t, 6), cc, request)
		require.NoError(t, err)
		require.Equal(t, sha256.Sum256(request), sha256.Sum256(reply), "sha256")
	})
}

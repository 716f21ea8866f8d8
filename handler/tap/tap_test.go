package tap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
)

func pattern(t testing.TB, s string) spec.Pattern {
	t.Helper()
	p, err := spec.ParsePattern(s)
	require.NoError(t, err)
	return p
}

// sink is a frameWriter that keeps what it gets.
type sink struct{ bytes.Buffer }

func (s *sink) Piece(n int) []byte { return make([]byte, n) }

func (s *sink) Write(p []byte) error {
	_, err := s.Buffer.Write(p)
	return err
}

func framed(flag byte, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(payload))), payload...)
}

func TestWriter_ShowsMessagesHoweverTheyAreCut(t *testing.T) {
	var in []byte
	payloads := [][]byte{nil, []byte("a"), bytes.Repeat([]byte("b"), 1000), nil, []byte("end")}
	for i, p := range payloads {
		in = append(in, framed(byte(i&1), p)...)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		h := &Hub{}
		tap, err := h.Open(pattern(t, "/s.S/*"), MaxRate)
		require.NoError(t, err)
		call, out := &Call{Method: "/s.S/M"}, &sink{}
		w := h.Match(call.Method).Writer(out, call, spec.OnResponse, "gzip")
		for rest := in; len(rest) > 0; {
			n := 1 + rnd.IntN(min(len(rest), 12))
			require.NoError(t, w.Write(rest[:n]))
			rest = rest[n:]
		}
		require.Equal(t, in, out.Bytes())
		for i, want := range payloads {
			m := <-tap.Messages()
			require.Equal(t, string(want), string(m.Payload))
			require.Equal(t, Message{Time: m.Time, Call: call, Direction: spec.OnResponse, Index: int64(i), Flag: byte(i & 1),
				Encoding: "gzip", Length: int64(len(want)), Payload: m.Payload}, m)
		}
		require.Zero(t, tap.Missed())
	}
}

func TestWriter_BoundsWhatItCopies(t *testing.T) {
	h := &Hub{}
	tap, err := h.Open(pattern(t, "*"), MaxRate)
	require.NoError(t, err)
	w := h.Match("/s.S/M").Writer(&sink{}, &Call{}, spec.OnRequest, "")
	require.NoError(t, w.Write(framed(0, make([]byte, 10*MaxMessageBytes))))
	m := <-tap.Messages()
	require.EqualValues(t, 10*MaxMessageBytes, m.Length)
	require.Len(t, m.Payload, MaxMessageBytes)
}

func TestTap_MissesWhatItDoesNotReadAndWhatIsOverItsRate(t *testing.T) {
	h := &Hub{}
	slow, err := h.Open(pattern(t, "*"), MaxRate)
	require.NoError(t, err)
	few, err := h.Open(pattern(t, "*"), 1)
	require.NoError(t, err)
	w := h.Match("/s.S/M").Writer(&sink{}, &Call{}, spec.OnRequest, "")
	const n = queueLen + 100
	for i := range n {
		require.NoError(t, w.Write(framed(0, fmt.Append(nil, i)))) // it never waits for a watcher
	}
	require.EqualValues(t, n-queueLen, slow.Missed())
	require.Zero(t, slow.Missed(), "since it was last asked")
	require.GreaterOrEqual(t, few.Missed(), int64(n-5))
	require.Equal(t, "0", string((<-few.Messages()).Payload))
}

func TestHub_WatchesWhatIsOpen(t *testing.T) {
	h := &Hub{}
	require.Nil(t, h.Match("/s.S/M"))
	require.Nil(t, (*Hub)(nil).Match("/s.S/M"))
	one, err := h.Open(pattern(t, "/s.S/*"), 1)
	require.NoError(t, err)
	require.Len(t, h.Match("/s.S/M"), 1)
	require.Nil(t, h.Match("/other.S/M"))
	for range MaxTaps - 1 {
		_, err := h.Open(pattern(t, "*"), 1)
		require.NoError(t, err)
	}
	_, err = h.Open(pattern(t, "*"), 1)
	require.ErrorIs(t, err, ErrTooMany)
	one.Close()
	one.Close()
	_, err = h.Open(pattern(t, "*"), 1)
	require.NoError(t, err)
}

func TestHub_ManyAtOnce(t *testing.T) {
	h := &Hub{}
	p := pattern(t, "*")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				if tap, err := h.Open(p, MaxRate); err == nil {
					tap.Missed()
					tap.Close()
				}
			}
		})
		all.Go(func() {
			for range 200 {
				w := h.Match("/s.S/M").Writer(&sink{}, &Call{}, spec.OnRequest, "")
				_ = w.Write(framed(0, []byte("x")))
			}
		})
	}
	all.Wait()
}

func BenchmarkTap_Nobody(b *testing.B) {
	h := &Hub{}
	b.ReportAllocs()
	for b.Loop() {
		if h.Match("/s.S/M") != nil {
			b.Fatal("somebody watches")
		}
	}
}

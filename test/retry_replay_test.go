package test

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/test/testbed"
)

func TestRetry_RequestThatIsLongerThanTheBufferIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	for _, buffer := range []int{1000, 61_440, 65_536, 300_000} {
		t.Run(strconv.Itoa(buffer), func(t *testing.T) {
			eachRouting(t, func(t *testing.T, routes routing) {
				u := newUpstreams(t, routes, 2, fmt.Sprintf("retry: {attempts: 2, codes: [UNAVAILABLE], buffer_bytes: %d, %s}", buffer, fast))
				for _, more := range []int{0, 1} {
					body := testbed.Frame(pattern(buffer-5+more, 1))
					cs := u.client.Open(t, testbed.RequestFields())
					sent := make(chan error, 1)
					go func() { sent <- cs.TrySendEnd(body) }()
					first := u.accept(t)
					require.True(t, bytes.Equal(body, first.Outcome().Body))
					require.NoError(t, <-sent)
					fail(first, 14)
					if more > 0 {
						wantUpstream(t, cs.Outcome(), 14, "no")
						continue
					}
					second := u.accept(t)
					got := second.Outcome()
					require.True(t, bytes.Equal(body, got.Body) && got.Ended, "replayed: %s", got)
					answer(second, "reply")
					wantAnswer(t, cs, "reply")
				}
				u.requireIdle(t)
			})
		})
	}
}

// A request that is still being sent goes on at the next endpoint where it was.
func TestRetry_StreamIsReplayedHalfWay(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		for _, size := range []int{10, 40_000, 150_000} {
			t.Run(strconv.Itoa(size), func(t *testing.T) {
				u := newUpstreams(t, routes, 3, "retry: {attempts: 3, codes: [UNAVAILABLE], buffer_bytes: 1048576, "+fast+"}")
				cs := u.client.Open(t, testbed.RequestFields())
				body := upload{cs: cs, size: size}
				body.send(1)
				body.send(2)
				for i := range 3 {
					st := u.accept(t)
					st.AwaitBytes(len(body.sent))
					if i < 2 {
						fail(st, 14)
						body.send(10 + i) // before, during or after the next attempt begins
						continue
					}
					body.send(20)
					cs.SendEnd(nil)
					got := st.Outcome()
					require.True(t, bytes.Equal(body.sent, got.Body), "%d bytes, want %d", len(got.Body), len(body.sent))
					answer(st, "reply")
				}
				wantAnswer(t, cs, "reply")
				u.requireIdle(t)
			})
		}
	})
}

// A try that ends while the client sends neither loses nor doubles a byte, wherever it ends.
func TestRetry_ReplayIsExactWhereverTheFirstTryEnds(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 2, "retry: {attempts: 2, codes: [UNAVAILABLE], buffer_bytes: 1048576, "+fast+"}")
		for i := range 30 {
			cs := u.client.Open(t, testbed.RequestFields())
			var body []byte
			for j := range 40 {
				body = append(body, testbed.Frame(pattern(2+j*(i+1)*7%3000, j))...)
			}
			sent := make(chan error, 1)
			go func() { sent <- cs.TrySendEnd(body) }()
			first := u.accept(t)
			first.AwaitBytes(len(body) * i / 30)
			fail(first, 14)
			second := u.accept(t)
			got := second.Outcome()
			require.True(t, bytes.Equal(body, got.Body), "%d: %d bytes, want %d", i, len(got.Body), len(body))
			answer(second, "reply")
			wantAnswer(t, cs, "reply")
			require.NoError(t, <-sent)
		}
		u.requireIdle(t)
	})
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	codec, ok := compress.Get("gzip")
	require.True(t, ok)
	packed, err := codec.Compress(nil, b)
	require.NoError(t, err)
	return packed
}

func TestRetry_CompressedRequestSurvives(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 2, "retry: {attempts: 2, codes: [UNAVAILABLE], "+fast+"}")
		cs := u.client.Open(t, testbed.RequestFields("grpc-encoding", "gzip", "grpc-accept-encoding", "gzip,identity"))
		body := testbed.Message{Flag: 1, Payload: gzipped(t, text("compressed"))}.Bytes()
		cs.SendEnd(body)
		for i := range 2 {
			st := u.accept(t)
			got := st.Outcome()
			require.Equal(t, []string{"gzip"}, got.Headers.Values("grpc-encoding"), "attempt %d", i)
			require.Contains(t, got.Headers.Get("grpc-accept-encoding"), "gzip")
			require.Equal(t, body, got.Body)
			if i == 0 {
				fail(st, 14)
			} else {
				answer(st, "reply")
			}
		}
		wantAnswer(t, cs, "reply")
	})
}

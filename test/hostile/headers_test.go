package hostile

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/chaos"
	"github.com/framegate/framegate/test/testbed"
)

// manyFields returns fields of n bytes in all, as RFC 9113 §6.5.2 counts them.
func manyFields(n int) (pairs []string) {
	const value = 1000
	for i := 0; n > 0; i++ {
		name := fmt.Sprintf("x-many-%d", i)
		pairs = append(pairs, name, strings.Repeat("v", value))
		n -= len(name) + value + 32
	}
	return pairs
}

// largeLists are requests whose header lists are over the listener's 64 KiB.
func largeLists() map[string]testbed.Fields {
	v := func(n int) string { return strings.Repeat("v", n) }
	return map[string]testbed.Fields{
		"just over the limit":          held(relayed, manyFields(64<<10)...),
		"many fields of 100 KiB":       held(relayed, manyFields(100<<10)...),
		"many fields of 700 KiB":       held(relayed, manyFields(700<<10)...),
		"one field of 70 KiB":          held(relayed, "x-large", v(70<<10)),
		"one field of 700 KiB":         held(relayed, "x-large", v(700<<10)),
		"a name of 70 KiB":             held(relayed, strings.Repeat("n", 70<<10), "v"),
		"a path of 70 KiB":             to("/" + v(70<<10) + "/Call"),
		"an authority of 70 KiB":       held(relayed).Replace(":authority", v(70<<10)),
		"a content-type of 70 KiB":     held(relayed).Replace("content-type", "application/grpc+"+v(70<<10)),
		"2,000 empty fields":           held(relayed, slices.Repeat([]string{"x-a", ""}, 2000)...),
		"a large cookie in two pieces": held(relayed, "cookie", v(40<<10), "cookie", v(40<<10)),
		"a malformed field behind":     held(relayed, append(manyFields(64<<10), "X-Upper", "v")...),
	}
}

// bomb returns a header block that is small and whose header list is huge: behind the fields, a field of 4 KiB goes into the table,
// and the block names it times times (RFC 7541 §7.3).
func bomb(stream uint32, fields testbed.Fields, times int) []byte {
	value := strings.Repeat("b", 3900)
	field := append([]byte{0x40, 6}, "x-bomb"...)
	field = append(field, 0x7f, 0xbd, 0x1d) // the length, 3900, in 7 bits and more
	field = append(field, value...)
	return split(stream, false, slices.Concat(block(fields), field, slices.Repeat([]byte{0xbe}, times)))
}

// split returns a header block in as many frames as it needs.
func split(stream uint32, end bool, block []byte) []byte {
	kind, flags := http2.FrameHeaders, http2.Flags(0)
	if end {
		flags = endStream
	}
	frames := make([]byte, 0, len(block)+frameHeader*(1+len(block)/maxFrame))
	for part := range slices.Chunk(block, maxFrame) {
		if block = block[len(part):]; len(block) == 0 {
			flags |= endHeaders
		}
		frames = appendFrame(frames, kind, flags, stream, part)
		kind, flags = http2.FrameContinuation, 0
	}
	return frames
}

// headerAttacks sends header lists that are too large. They cost their call, however large they are, and neither the connection nor
// memory. Another call on the connection goes on.
func headerAttacks(t *testing.T, w *world) {
	for name, fields := range inOrder(largeLists()) {
		w.attack(t, name, func(t *testing.T) {
			c := testbed.DialH2(t, w.proxy.Addr)
			echo := newEcho(t, c)
			for range 2 {
				tooLarge(t, c.OpenEnd(t, fields))
				tooLarge(t, c.Open(t, fields))
				echo.exchange(t)
			}
			wantGood(t, c)
		})
	}
	for _, times := range []int{20, 1000, 12_000, 200_000} {
		w.attack(t, fmt.Sprintf("a bomb of %d KiB", times*4), func(t *testing.T) {
			c := testbed.DialH2(t, w.proxy.Addr)
			for range 2 {
				s := c.NewStream(t)
				require.NoError(t, c.WriteBytes(bomb(s.ID, held(relayed), times)))
				tooLarge(t, s)
			}
			s := c.NewStream(t) // the table is in step
			require.NoError(t, c.WriteBytes(request(s.ID, to(chaos.UnaryMethod), false)))
			s.SendEnd(testbed.Frame(nil))
			require.Equal(t, 0, s.Outcome().Code())
		})
	}
	w.attack(t, "trailers of 70 KiB", func(t *testing.T) {
		c := testbed.DialH2(t, w.proxy.Addr)
		echo := newEcho(t, c)
		for i := range repeats {
			s := c.Open(t, held(ways[i%len(ways)]))
			s.SendTrailers(testbed.NewFields(manyFields(70 << 10)...))
			tooLarge(t, s)
			echo.exchange(t)
		}
		wantGood(t, c)
	})
	leftHeaders(t, w)
}

// leftHeaders makes calls with headers that are just small enough, all at the same time, and wants nothing of them to stay when they
// are over.
func leftHeaders(t *testing.T, w *world) {
	const conns, each, size = 4, 50, 60 << 10
	for _, way := range ways {
		large := block(held(way, "x-large", strings.Repeat("~", size))) // which Huffman code makes no shorter
		w.attack(t, "headers of calls that are over, "+string(way), func(t *testing.T) {
			before := heapBytes()
			clients := make([]*testbed.H2Conn, conns)
			for i := range clients {
				clients[i] = testbed.DialH2(t, w.proxy.Addr)
				for range each {
					s := clients[i].NewStream(t)
					require.NoError(t, clients[i].WriteBytes(split(s.ID, false, large)))
				}
				wantGood(t, clients[i]) // all have come
			}
			for _, c := range clients {
				c.Close()
			}
			wantHeapBack(t, before, conns*each*size/2)
		})
	}
}

// tooLarge wants a call to end for its headers.
func tooLarge(t *testing.T, s *testbed.H2Stream) {
	t.Helper()
	o := s.Outcome()
	require.True(t, o.TrailersOnly(), "%s", o)
	wantLocal(t, o, 8, "headers_too_large")
}

// echo is a call that goes on.
type echo struct {
	s *testbed.H2Stream
	n int
}

func newEcho(t *testing.T, c *testbed.H2Conn) *echo {
	t.Helper()
	e := &echo{s: c.Open(t, to(chaos.BidiMethod))}
	e.s.Send(testbed.Frame(nil))
	e.s.ReadHeaders()
	e.s.WantMessage("")
	return e
}

// exchange sends a message and wants it back.
func (e *echo) exchange(t *testing.T) {
	t.Helper()
	e.n++
	message := testbed.Text(fmt.Sprint(e.n))
	e.s.Send(testbed.Frame(message))
	e.s.WantMessage(string(message))
}

package relay

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/handler/frame"
)

func message(flag byte, payload int) []byte {
	return append([]byte{flag, byte(payload >> 24), byte(payload >> 16), byte(payload >> 8), byte(payload)}, make([]byte, payload)...)
}

func TestFraming_HoweverTheBytesCome(t *testing.T) {
	var all []byte
	sizes := []int{0, 1, 7, 0, 300, 5}
	for i, n := range sizes {
		all = append(all, message(byte(i%2), n)...)
	}
	for range 200 {
		f := framing{maxBytes: 300}
		for rest := all; len(rest) > 0; {
			n := 1 + rand.IntN(len(rest))
			require.NoError(t, f.follow(rest[:n]))
			rest = rest[n:]
		}
		require.NoError(t, f.end())
		require.EqualValues(t, len(sizes), f.messages)
		require.EqualValues(t, len(all), f.bytes)
	}
}

func TestFraming_NamesWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		p         []byte
		max       int64
		want, end error
	}{
		"bad flag":               {p: []byte{2}, want: frame.ErrBadFlag, end: frame.ErrTruncated},
		"bad flag of the second": {p: append(message(0, 3), 7), want: frame.ErrBadFlag, end: frame.ErrTruncated},
		"too large":              {p: message(0, 11)[:5], max: 10, want: frame.ErrTooLarge, end: frame.ErrTruncated},
		"as large as may be":     {p: message(1, 10), max: 10},
		"no limit":               {p: []byte{0, 255, 255, 255, 255}, end: frame.ErrTruncated},
		"cut in the prefix":      {p: []byte{0, 0}, end: frame.ErrTruncated},
		"cut in the payload":     {p: message(0, 9)[:8], end: frame.ErrTruncated},
		"nothing":                {},
	} {
		f := framing{maxBytes: c.max}
		require.Equal(t, c.want, f.follow(c.p), name)
		if c.want != nil {
			require.Zero(t, f.messages+f.bytes, name)
		}
		require.Equal(t, c.end, f.end(), name)
	}
}

// A message that has begun ends where its bytes do, however they come; one that does not end in what there is has no rest.
func TestPlace_Rest(t *testing.T) {
	all := slices.Concat(message(0, 300), message(1, 0), message(0, 7))
	boundaries := []int{0, 305, 310, 322}
	for at := range len(all) + 1 {
		for have := at; have <= len(all); have++ {
			want := 0
			if i, _ := slices.BinarySearch(boundaries, at); boundaries[i] <= have {
				want = boundaries[i] - at
			}
			var p place
			p.skip(all[:at])
			require.Equal(t, want, p.rest(slices.Chunk(all[at:have], 1+rand.IntN(9))), "from %d to %d", at, have)
		}
	}
}

package compress

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/stretchr/testify/require"
)

// ledger is a Room that counts, and refuses what is over most or asked when patience is over.
type ledger struct {
	most, taken, peak int64
	patience          int // Errs until it says that the message is not wanted; 0 means for ever
	asked             int
}

var errFull, errUnwanted = errors.New("full"), errors.New("unwanted")

func (l *ledger) Take(n int64) error {
	if l.taken+n > l.most {
		return errFull
	}
	l.taken += n
	l.peak = max(l.peak, l.taken)
	return nil
}

func (l *ledger) Give(n int64) { l.taken -= n }

func (l *ledger) Err() error {
	if l.asked++; l.patience > 0 && l.asked > l.patience {
		return errUnwanted
	}
	return nil
}

func TestRoom_IsAskedForAllMemoryAndGivenBack(t *testing.T) {
	for _, name := range packed {
		for _, size := range []int{0, 100, 200 << 10, 5 << 20} {
			t.Run(fmt.Sprint(name, " ", size), func(t *testing.T) {
				src := make([]byte, size)
				enough := &ledger{most: 1 << 30}
				enc, err := get(t, name).Within(enough).Compress(nil, src)
				require.NoError(t, err)
				require.EqualValues(t, cap(enc), enough.taken, "the encoded message")

				messages := map[string][]byte{name: enc}
				if name == "snappy" {
					messages["block"] = snappy.Encode(nil, src)
				}
				for kind, enc := range messages {
					room := &ledger{most: 1 << 30}
					var dec []byte
					allocated := taken(func() { dec, err = get(t, name).Within(room).Decompress(enc, 0) })
					require.NoError(t, err, kind)
					require.EqualValues(t, cap(dec), room.taken, "the decoded message")
					require.GreaterOrEqual(t, room.peak, int64(size))
					require.LessOrEqual(t, allocated, uint64(2*room.peak)+64<<10, "what was allocated in all, buffers that grew included")

					for _, most := range []int64{0, room.peak / 2, room.peak - 1} {
						if room.peak == 0 {
							continue
						}
						room := &ledger{most: most}
						_, err := get(t, name).Within(room).Decompress(enc, 0)
						require.ErrorIs(t, err, errFull)
						require.False(t, errorIsOurs(err), "it is not the message's fault")
						require.Zero(t, room.taken)
					}
					for _, damaged := range [][]byte{enc[:len(enc)-1], append(bytes.Clone(enc), 'x')} {
						room := &ledger{most: 1 << 30}
						if dec, err := get(t, name).Within(room).Decompress(damaged, 0); err == nil {
							room.Give(int64(cap(dec)))
						}
						require.Zero(t, room.taken)
					}
					room = &ledger{most: 1 << 30}
					if size > 1 {
						_, err = get(t, name).Within(room).Decompress(enc, int64(size-1))
						require.ErrorIs(t, err, ErrTooLarge)
						require.Zero(t, room.taken)
					}
				}
				for _, most := range []int64{0, enough.peak - 1} {
					room := &ledger{most: most}
					if _, err := get(t, name).Within(room).Compress(nil, src); err == nil {
						continue // an empty message of snappy takes next to nothing
					}
					require.Zero(t, room.taken)
				}
			})
		}
	}
}

// Nobody wants the message any more: the rest of it is not decoded.
func TestRoom_EndsWhatIsNotWanted(t *testing.T) {
	src := make([]byte, 32<<20)
	for _, name := range packed {
		enc, err := get(t, name).Compress(nil, src)
		require.NoError(t, err)
		room := &ledger{most: 1 << 30, patience: 1}
		_, err = get(t, name).Within(room).Decompress(enc, 0)
		require.ErrorIs(t, err, errUnwanted, name)
		require.Zero(t, room.taken, name)
		require.Less(t, room.peak, int64(4<<20), name)
	}
	for _, name := range []string{"gzip", "deflate", "snappy"} {
		room := &ledger{most: 1 << 30, patience: 1}
		_, err := get(t, name).Within(room).Compress(nil, src)
		require.ErrorIs(t, err, errUnwanted, name)
		require.Zero(t, room.taken, name)
	}
}

// The window of every frame counts, whichever comes first.
func TestRoom_CountsTheWindowsOfZstd(t *testing.T) {
	const large = 13 << 3 // the descriptor of a window of 8 MiB
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0}, "abc"...)
	checked := append(zstdFrame(1<<2, 7<<3), 0, 0, 0, 0) // of 128 KiB; its checksum is wrong
	for name, c := range map[string]struct {
		message []byte
		want    int64
	}{
		"one":             {zstdFrame(0, large), 8 << 20},
		"the second":      {append(zstdFrame(0, 7<<3), zstdFrame(0, large)...), 8 << 20},
		"behind checksum": {append(bytes.Clone(checked), zstdFrame(0, large)...), 8 << 20},
		"behind a gap":    {append(bytes.Clone(skippable), zstdFrame(0, large)...), 8 << 20},
		"in one segment":  {zstdFrame(2<<6|1<<5, 0, 0, 2, 0), 128 << 10},
		"too large":       {zstdFrame(0, 0xff), 0},
		"cut":             {zstdFrame(0, large)[:5], 0},
		"nonsense":        {[]byte("nonsense"), 0},
		"skips too much":  {[]byte{0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff}, 0},
		"nothing":         {nil, 0},
	} {
		require.Equal(t, c.want, zstdWindow(c.message), name)
	}
}

package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

// bombPart is a sixteenth of 1 GiB.
const bombPart = 64 << 20

// taken is how many bytes were allocated in all during f.
func taken(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// written writes n zeros through w, whose output is enc, and closes it.
func written(t testing.TB, w io.WriteCloser, enc *bytes.Buffer, n int64) {
	t.Helper()
	_, err := io.CopyN(w, zeros{}, n)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Less(t, int64(enc.Len()), n/16)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// zstdFrame is a frame with the header fields given and one block that repeats a zero 128 KiB long.
func zstdFrame(descriptor byte, rest ...byte) []byte {
	b := append([]byte{0x28, 0xb5, 0x2f, 0xfd, descriptor}, rest...)
	const repeat, last = 1 << 1, 1
	header := uint32(128<<10)<<3 | repeat | last
	return append(b, byte(header), byte(header>>8), byte(header>>16), 0)
}

func TestBomb_IsRefusedWithMemoryFlat(t *testing.T) {
	var gz, zl, sn, zs bytes.Buffer
	written(t, gzip.NewWriter(&gz), &gz, bombPart)
	written(t, zlib.NewWriter(&zl), &zl, bombPart)
	written(t, snappy.NewBufferedWriter(&sn), &sn, bombPart)
	sw, err := zstd.NewWriter(&zs)
	require.NoError(t, err)
	written(t, sw, &zs, bombPart)

	size := func(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
	single := byte(3<<6 | 1<<5) // a size of 8 bytes, and no window but the size
	for _, bomb := range []struct {
		name, encoding string
		message        []byte
		want           error
	}{
		{"64 MiB of zeros", "gzip", gz.Bytes(), ErrTooLarge},
		{"1 GiB of zeros", "gzip", bytes.Repeat(gz.Bytes(), 16), ErrTooLarge},
		{"64 MiB of zeros", "deflate", zl.Bytes(), ErrTooLarge},
		{"64 MiB of zeros, raw", "deflate", zl.Bytes()[2:], ErrTooLarge},
		{"64 MiB of zeros", "snappy", sn.Bytes(), ErrTooLarge},
		{"1 GiB of zeros", "snappy", bytes.Repeat(sn.Bytes(), 16), ErrTooLarge},
		{"a block that announces 4 GiB", "snappy", append(binary.AppendUvarint(nil, 1<<32-1), "x"...), ErrTooLarge},
		{"a block that announces the limit", "snappy", append(binary.AppendUvarint(nil, 1<<20), "x"...), ErrCorrupt},
		{"1 GiB of zeros", "zstd", bytes.Repeat(zs.Bytes(), 16), ErrTooLarge},
		{"many frames", "zstd", bytes.Repeat(zstdFrame(0, 7<<3), 1000), ErrTooLarge},
		{"a size of 2^63", "zstd", zstdFrame(single, size(1<<63)...), ErrTooLarge},
		{"a size of 1 GiB", "zstd", zstdFrame(single, size(1<<30)...), ErrTooLarge},
		{"a window of 3.75 TiB", "zstd", zstdFrame(0, 0xff), ErrTooLarge},
		{"a window of 16 MiB", "zstd", zstdFrame(0, 14<<3), ErrTooLarge},
	} {
		t.Run(bomb.encoding+": "+bomb.name, func(t *testing.T) {
			c := get(t, bomb.encoding)
			const limit = 1 << 20
			bytes := taken(func() {
				_, err = c.Decompress(bomb.message, limit)
			})
			require.ErrorIs(t, err, bomb.want)
			require.Less(t, bytes, uint64(4*limit+2*MaxWindow))
			if bomb.encoding != "zstd" { // which may take its window
				require.Less(t, bytes, uint64(4*limit))
			}
		})
	}
}

// With no limit there is still one on what is taken for an announcement alone.
func TestBomb_AnnouncementAloneTakesNoMemory(t *testing.T) {
	for name, message := range map[string][]byte{
		"snappy": append(binary.AppendUvarint(nil, 1<<31), "x"...),
		"zstd":   zstdFrame(3<<6|1<<5, binary.LittleEndian.AppendUint64(nil, 1<<40)...),
	} {
		var err error
		bytes := taken(func() { _, err = get(t, name).Decompress(message, 0) })
		require.True(t, errorIsOurs(err), name)
		require.Less(t, bytes, uint64(1<<20), name)
	}
}

// The largest window that is allowed is taken once, not for every message.
func TestBomb_WindowOfZstdIsUsedAgain(t *testing.T) {
	c := get(t, "zstd")
	message := zstdFrame(0, 13<<3) // 8 MiB
	_, err := c.Decompress(message, 1<<20)
	require.NoError(t, err)
	bytes := taken(func() {
		for range 100 {
			_, err = c.Decompress(message, 1<<20)
			require.NoError(t, err)
		}
	})
	require.Less(t, bytes, uint64(100*MaxWindow/2))
}

func errorIsOurs(err error) bool { return errors.Is(err, ErrTooLarge) || errors.Is(err, ErrCorrupt) }

func FuzzDecompress(f *testing.F) {
	for i, name := range names {
		c := get(f, name)
		for _, src := range [][]byte{nil, text(100), text(3000), make([]byte, 100<<10)} {
			enc, err := c.Compress(nil, src)
			require.NoError(f, err)
			f.Add(uint8(i), enc, int64(1<<10))
			f.Add(uint8(i), enc[:len(enc)/2], int64(0))
			f.Add(uint8(i), append(enc, enc...), int64(1<<20))
		}
	}
	f.Add(uint8(3), snappy.Encode(nil, text(3000)), int64(3000))
	f.Add(uint8(4), zstdFrame(0, 13<<3), int64(1))
	f.Add(uint8(4), zstdFrame(3<<6|1<<5, binary.LittleEndian.AppendUint64(nil, 1<<40)...), int64(1<<20))
	f.Fuzz(func(t *testing.T, which uint8, message []byte, limit int64) {
		c := get(t, names[int(which)%len(names)])
		if limit <= 0 || limit > 1<<20 {
			limit = 1 << 20
		}
		kept := bytes.Clone(message)
		dec, err := c.Decompress(message, limit)
		require.True(t, bytes.Equal(kept, message), "the message was written to")
		if err != nil {
			require.Nil(t, dec)
			require.True(t, errorIsOurs(err), "%v", err)
			return
		}
		require.LessOrEqual(t, int64(len(dec)), limit)
		enc, err := c.Compress(nil, dec)
		require.NoError(t, err)
		again, err := c.Decompress(enc, limit)
		require.NoError(t, err)
		require.True(t, bytes.Equal(dec, again))
	})
}

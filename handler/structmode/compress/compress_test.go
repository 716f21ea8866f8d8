package compress

import (
	"bytes"
	stdflate "compress/flate"
	stdzlib "compress/zlib"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip"
)

var names = []string{"identity", "gzip", "deflate", "snappy", "zstd"}

// packed are the encodings that change bytes.
var packed = names[1:]

func get(t testing.TB, name string) Codec {
	t.Helper()
	c, ok := Get(name)
	require.True(t, ok, name)
	return c
}

// text is n bytes that compress about as well as messages do.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("order item price cents customer street city 2024 0.99 true false null message payload index")
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString(words[r.IntN(len(words))])
		b.WriteByte(byte(r.IntN(256)))
	}
	return b.Bytes()[:n]
}

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestGet_KnowsTheEncodingsOfGRPCOnly(t *testing.T) {
	for _, name := range names {
		require.Equal(t, name, get(t, name).Name())
	}
	for _, name := range []string{"", "GZIP", "br", "x-snappy-framed"} {
		_, ok := Get(name)
		require.False(t, ok, name)
	}
}

func TestCodec_DecodesWhatItEncoded(t *testing.T) {
	for _, name := range names {
		c := get(t, name)
		for _, size := range []int{0, 1, 100, 1 << 10, 64 << 10, 64<<10 + 1, 600 << 10} {
			for kind, src := range map[string][]byte{"text": text(size), "noise": noise(size), "zeros": make([]byte, size)} {
				enc, err := c.Compress(nil, src)
				require.NoError(t, err)
				for _, limit := range []int64{0, int64(max(size, 1)), int64(size) + 1, 1<<63 - 1} {
					dec, err := c.Decompress(enc, limit)
					require.NoError(t, err, "%s %s %d limit %d", name, kind, size, limit)
					require.True(t, bytes.Equal(src, dec), "%s %s %d limit %d", name, kind, size, limit)
				}
			}
		}
	}
}

func TestCodec_CompressAppends(t *testing.T) {
	src := text(5000)
	for _, name := range names {
		c := get(t, name)
		alone, err := c.Compress(nil, src)
		require.NoError(t, err)
		appended, err := c.Compress([]byte("head"), src)
		require.NoError(t, err)
		require.Equal(t, append([]byte("head"), alone...), appended, name)
	}
}

func TestIdentity_CopiesNothing(t *testing.T) {
	src := text(10)
	c := get(t, "identity")
	enc, err := c.Compress(nil, src)
	require.NoError(t, err)
	require.Same(t, &src[0], &enc[0])
	dec, err := c.Decompress(src, 10)
	require.NoError(t, err)
	require.Same(t, &src[0], &dec[0])
	_, err = c.Decompress(src, 9)
	require.ErrorIs(t, err, ErrTooLarge)
}

func TestCodec_ResultIsTheCallers(t *testing.T) {
	for _, name := range packed {
		c := get(t, name)
		for _, size := range []int{1000, 600 << 10} {
			a, b := text(size), noise(size)
			encA, err := c.Compress(nil, a)
			require.NoError(t, err)
			encB, err := c.Compress(nil, b)
			require.NoError(t, err)
			decA, err := c.Decompress(encA, 0)
			require.NoError(t, err)
			clear(encA) // the result may not depend on what it came from ...
			_, err = c.Decompress(encB, 0)
			require.NoError(t, err) // ... nor on a later message
			require.True(t, bytes.Equal(a, decA), name)
		}
	}
}

func TestCodec_ManyGoroutinesAtOnce(t *testing.T) {
	for _, name := range names {
		c := get(t, name)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				src := text(1000 * (i + 1))
				for range 20 {
					enc, err := c.Compress(nil, src)
					if err == nil {
						var dec []byte
						if dec, err = c.Decompress(enc, int64(len(src))); err == nil && !bytes.Equal(src, dec) {
							err = io.ErrUnexpectedEOF
						}
					}
					if err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestCodec_RefusesWhatIsOverTheLimit(t *testing.T) {
	for _, name := range names {
		c := get(t, name)
		for _, size := range []int{2, 1000, 300 << 10} {
			enc, err := c.Compress(nil, text(size))
			require.NoError(t, err)
			_, err = c.Decompress(enc, int64(size-1))
			require.ErrorIs(t, err, ErrTooLarge, name)
			require.NotErrorIs(t, err, ErrCorrupt, name)
			_, err = c.Decompress(enc, int64(size))
			require.NoError(t, err, "%s: the codec works after a refusal", name)
		}
	}
}

func TestCodec_TruncatedIsCorrupt(t *testing.T) {
	src := text(1000)
	for _, name := range packed {
		c := get(t, name)
		enc, err := c.Compress(nil, src)
		require.NoError(t, err)
		for n := range enc {
			if name == "snappy" && n == len(snappyIdentifier) {
				continue // a whole message of the framing format, of no bytes
			}
			_, err := c.Decompress(enc[:n], 0)
			require.ErrorIs(t, err, ErrCorrupt, "%s cut to %d of %d", name, n, len(enc))
			require.NotErrorIs(t, err, io.EOF, "%s cut to %d of %d", name, n, len(enc))
		}
	}
}

func TestCodec_TrailingGarbageIsCorrupt(t *testing.T) {
	for _, name := range packed {
		c := get(t, name)
		enc, err := c.Compress(nil, text(5000))
		require.NoError(t, err)
		for _, tail := range []string{"\x00", "garbage", strings.Repeat("\x00", 100)} {
			_, err := c.Decompress(append(bytes.Clone(enc), tail...), 0)
			require.ErrorIs(t, err, ErrCorrupt, "%s with %q", name, tail)
		}
	}
}

// A flipped bit is found by a checksum, or the message decodes as before: the bit was one of no meaning, such as gzip's
// time. It may also announce more than is allowed.
func TestCodec_FlippedBitNeverChangesTheMessage(t *testing.T) {
	src := text(300)
	for _, name := range packed {
		c := get(t, name)
		enc, err := c.Compress(nil, src)
		require.NoError(t, err)
		for i := range enc {
			for bit := range 8 {
				if name == "snappy" && i < len(snappyIdentifier) {
					continue // read as a block, which has no checksum
				}
				damaged := bytes.Clone(enc)
				damaged[i] ^= 1 << bit
				dec, err := c.Decompress(damaged, 1<<20)
				if err != nil {
					require.True(t, errorIsOurs(err), "%s byte %d bit %d: %v", name, i, bit, err)
					continue
				}
				if len(dec) > 0 { // snappy skips a chunk whose type became skippable
					require.True(t, bytes.Equal(src, dec), "%s byte %d bit %d", name, i, bit)
				}
			}
		}
	}
}

func TestGzip_InteropWithGRPCGo(t *testing.T) {
	theirs := encoding.GetCompressor("gzip")
	require.NotNil(t, theirs)
	c, src := get(t, "gzip"), text(100<<10)

	var enc bytes.Buffer
	w, err := theirs.Compress(&enc)
	require.NoError(t, err)
	_, err = w.Write(src)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	dec, err := c.Decompress(enc.Bytes(), int64(len(src)))
	require.NoError(t, err)
	require.Equal(t, src, dec)

	ours, err := c.Compress(nil, src)
	require.NoError(t, err)
	r, err := theirs.Decompress(bytes.NewReader(ours))
	require.NoError(t, err)
	dec, err = io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, src, dec)
}

func TestGzip_MembersFollowEachOtherAsInGRPCGo(t *testing.T) {
	c := get(t, "gzip")
	enc, err := c.Compress(nil, []byte("one "))
	require.NoError(t, err)
	enc, err = c.Compress(enc, []byte("two"))
	require.NoError(t, err)

	dec, err := c.Decompress(enc, 7)
	require.NoError(t, err)
	require.Equal(t, "one two", string(dec))
	_, err = c.Decompress(enc, 6)
	require.ErrorIs(t, err, ErrTooLarge)

	r, err := encoding.GetCompressor("gzip").Decompress(bytes.NewReader(enc))
	require.NoError(t, err)
	theirs, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, theirs, dec)
}

func TestDeflate_ReadsZlibAndRaw(t *testing.T) {
	c := get(t, "deflate")
	levels := []int{stdflate.NoCompression, stdflate.BestSpeed, stdflate.BestCompression, stdflate.HuffmanOnly}
	for _, src := range [][]byte{nil, []byte("x"), text(100 << 10), noise(100 << 10)} {
		for _, level := range levels {
			var zlibbed, raw bytes.Buffer
			z, err := stdzlib.NewWriterLevel(&zlibbed, level)
			require.NoError(t, err)
			f, err := stdflate.NewWriter(&raw, level)
			require.NoError(t, err)
			for _, w := range []io.WriteCloser{z, f} {
				_, err = w.Write(src)
				require.NoError(t, err)
				require.NoError(t, w.Close())
			}
			for _, enc := range [][]byte{zlibbed.Bytes(), raw.Bytes()} {
				dec, err := c.Decompress(enc, 0)
				require.NoError(t, err)
				require.True(t, bytes.Equal(src, dec))
				_, err = c.Decompress(enc[:len(enc)-1], 0)
				require.ErrorIs(t, err, ErrCorrupt)
				_, err = c.Decompress(append(bytes.Clone(enc), 0), 0)
				require.ErrorIs(t, err, ErrCorrupt)
			}
		}
	}
}

func TestDeflate_WritesZlib(t *testing.T) {
	enc, err := get(t, "deflate").Compress(nil, text(1000))
	require.NoError(t, err)
	r, err := stdzlib.NewReader(bytes.NewReader(enc))
	require.NoError(t, err)
	dec, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, text(1000), dec)
}

// The second byte of a zlib header is damaged: reading on as raw data would lose the checksum.
func TestDeflate_DamagedZlibHeaderIsNotReadAsRaw(t *testing.T) {
	c := get(t, "deflate")
	enc, err := c.Compress(nil, text(1000))
	require.NoError(t, err)
	enc[1] ^= 1
	_, err = c.Decompress(enc, 0)
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorIs(t, err, stdzlib.ErrHeader)
}

func TestSnappy_ReadsBlocksAndWritesFrames(t *testing.T) {
	c := get(t, "snappy")
	for _, src := range [][]byte{nil, []byte("x"), text(1000), text(200 << 10), make([]byte, 1<<20)} {
		dec, err := c.Decompress(snappy.Encode(nil, src), 0)
		require.NoError(t, err)
		require.True(t, bytes.Equal(src, dec))

		enc, err := c.Compress(nil, src)
		require.NoError(t, err)
		require.True(t, bytes.HasPrefix(enc, []byte(snappyIdentifier)))
		dec, err = io.ReadAll(snappy.NewReader(bytes.NewReader(enc)))
		require.NoError(t, err)
		require.True(t, bytes.Equal(src, dec))
	}
}

func TestZstd_ReadsStreamsAndSeveralFrames(t *testing.T) {
	c, src := get(t, "zstd"), text(3<<20)
	var enc bytes.Buffer
	w, err := zstd.NewWriter(&enc) // writes no size in the header
	require.NoError(t, err)
	_, err = w.Write(src)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	dec, err := c.Decompress(enc.Bytes(), int64(len(src)))
	require.NoError(t, err)
	require.True(t, bytes.Equal(src, dec))

	two, err := c.Compress(enc.Bytes(), []byte("tail"))
	require.NoError(t, err)
	dec, err = c.Decompress(two, 0)
	require.NoError(t, err)
	require.True(t, bytes.HasSuffix(dec, []byte("tail")))
	require.Len(t, dec, len(src)+4)
}

package compress

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func BenchmarkDecompress(b *testing.B) {
	each(b, func(b *testing.B, c Codec, src []byte) {
		enc, err := c.Compress(nil, src)
		require.NoError(b, err)
		for b.Loop() {
			if _, err := c.Decompress(enc, 1<<20); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCompress(b *testing.B) {
	each(b, func(b *testing.B, c Codec, src []byte) {
		dst := make([]byte, 0, 2*len(src))
		for b.Loop() {
			if _, err := c.Compress(dst, src); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func each(b *testing.B, run func(*testing.B, Codec, []byte)) {
	for _, name := range packed {
		for _, size := range []int{1 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%s/%dKiB", name, size>>10), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				run(b, get(b, name), text(size))
			})
		}
	}
}

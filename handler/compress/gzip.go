package compress

import (
	"bytes"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// gzipFormat is RFC 1952. Several members in one message decode to all of them, one after the other, as in grpc-go.
type gzipFormat struct{}

var (
	gzipInflaters = sync.Pool{New: func() any { return &inflater{decoder: new(gzipDecoder)} }}
	gzipDeflaters = sync.Pool{New: func() any {
		w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // fails only for a level that does not exist
		return &deflater{encoder: w}
	}}
)

func (gzipFormat) decompress(src []byte, limit int64) ([]byte, error) {
	f := gzipInflaters.Get().(*inflater)
	defer gzipInflaters.Put(f)
	return f.inflate(src, limit)
}

func (gzipFormat) compress(dst, src []byte) ([]byte, error) {
	d := gzipDeflaters.Get().(*deflater)
	defer gzipDeflaters.Put(d)
	return d.deflate(dst, src)
}

type gzipDecoder struct{ gzip.Reader }

func (d *gzipDecoder) reset(in *bytes.Reader) error { return d.Reset(in) }

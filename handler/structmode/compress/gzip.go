package compress

import (
	"bytes"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// gzipFormat is the gzip format (RFC 1952). Several gzip members in one message decode to the concatenation of all, as in
// grpc-go.
type gzipFormat struct{}

var (
	gzipInflaters = sync.Pool{New: func() any { return &inflater{decoder: new(gzipDecoder)} }}
	gzipDeflaters = sync.Pool{New: func() any {
		w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // fails only for a level that does not exist
		return &deflater{encoder: w}
	}}
)

// The memory of a decoder and an encoder.
const (
	gzipDecoderBytes = 64 << 10
	gzipEncoderBytes = 1 << 20
)

func (gzipFormat) decompress(src []byte, limit int64, room Room) ([]byte, error) {
	f := gzipInflaters.Get().(*inflater)
	defer gzipInflaters.Put(f)
	return f.inflate(src, limit, room, gzipDecoderBytes)
}

func (gzipFormat) compress(dst, src []byte, room Room) ([]byte, error) {
	d := gzipDeflaters.Get().(*deflater)
	defer gzipDeflaters.Put(d)
	return d.deflate(dst, src, room, gzipEncoderBytes)
}

type gzipDecoder struct{ gzip.Reader }

func (d *gzipDecoder) reset(in *bytes.Reader) error { return d.Reset(in) }

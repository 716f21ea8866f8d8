package compress

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// MaxWindow is the largest zstd window, in bytes, that is decoded: what RFC 8878 §3.1.1.1.2 tells every decoder to
// support. A message that asks for more is ErrTooLarge.
const MaxWindow = 8 << 20

// zstdFormat is RFC 8878. Frames that follow each other decode to all of them, as the RFC says; dictionaries are
// unknown.
type zstdFormat struct{}

var (
	zstdInflaters = sync.Pool{New: func() any { return &inflater{decoder: new(zstdDecoder)} }}
	zstdEncoders  = sync.Pool{New: func() any {
		// Fails only for options that do not exist. EncodeAll starts no goroutine, so the pool may drop an encoder.
		w, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true), zstd.WithWindowSize(1<<20))
		return w
	}}
)

func (zstdFormat) decompress(src []byte, limit int64) ([]byte, error) {
	f := zstdInflaters.Get().(*inflater)
	defer zstdInflaters.Put(f)
	return f.inflate(src, limit)
}

func (zstdFormat) compress(dst, src []byte) ([]byte, error) {
	w := zstdEncoders.Get().(*zstd.Encoder)
	defer zstdEncoders.Put(w)
	return w.EncodeAll(src, dst), nil
}

// zstdDecoder reads frames one block at a time, in the caller's goroutine: decoding a frame in one go would take the
// memory that its header announces. The decoder is made when it is first needed.
type zstdDecoder struct{ z *zstd.Decoder }

func (d *zstdDecoder) reset(in *bytes.Reader) (err error) {
	if d.z == nil {
		d.z, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(MaxWindow))
	} else {
		err = d.z.Reset(in)
	}
	return zstdError(err)
}

func (d *zstdDecoder) Read(p []byte) (int, error) {
	n, err := d.z.Read(p)
	return n, zstdError(err)
}

// zstdError tells a window over MaxWindow from corrupt input. A frame in a single segment has a window of its own size.
func zstdError(err error) error {
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return fmt.Errorf("%w: wants a window of more than %d bytes: %w", ErrTooLarge, MaxWindow, err)
	}
	return err
}

package compress

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// MaxWindow is the largest window of a zstd frame that is decoded, in bytes: the one that RFC 8878 §3.1.1.1.2 recommends
// every decoder to support. Decoding a message with a larger window fails with ErrTooLarge.
const MaxWindow = 8 << 20

// zstdFormat is the zstd format (RFC 8878). Several frames in one message decode to the concatenation of all, as the RFC says.
// Dictionaries are not supported.
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

// The memory of a decoder beside its window, and of an encoder.
const (
	zstdDecoderBytes = 256 << 10
	zstdEncoderBytes = 3 << 19
)

func (zstdFormat) decompress(src []byte, limit int64, room Room) ([]byte, error) {
	f := zstdInflaters.Get().(*inflater)
	defer zstdInflaters.Put(f)
	return f.inflate(src, limit, room, zstdDecoderBytes+zstdWindow(src))
}

func (zstdFormat) compress(dst, src []byte, room Room) ([]byte, error) {
	w := zstdEncoders.Get().(*zstd.Encoder)
	defer zstdEncoders.Put(w)
	return encoded(dst, src, room, zstdEncoderBytes, func() ([]byte, error) { return w.EncodeAll(src, dst), nil })
}

// zstdWindow returns the size of the largest window of the frames in src, which is what the decoder allocates. It ignores
// the frames from the first one on that is malformed or has a window over MaxWindow, because the decoder stops there.
func zstdWindow(src []byte) (largest int64) {
	for len(src) > 0 {
		var h zstd.Header
		rest, err := h.DecodeAndStrip(src)
		if err != nil {
			return largest
		}
		if h.Skippable {
			src = rest[min(int64(len(rest)), int64(h.SkippableSize)):]
			continue
		}
		window := h.WindowSize
		if h.SingleSegment {
			window = h.FrameContentSize
		}
		if window > MaxWindow {
			return largest
		}
		largest = max(largest, int64(window))
		src = afterZstdBlocks(src[h.HeaderSize:])
		if h.HasCheckSum {
			src = src[min(len(src), 4):]
		}
	}
	return largest
}

// afterZstdBlocks returns the part of src behind the blocks of a frame (RFC 8878 §3.1.1.2); src starts with the first block.
func afterZstdBlocks(src []byte) []byte {
	const headerLen, rle = 3, 1
	for len(src) >= headerLen {
		header := int(src[0]) | int(src[1])<<8 | int(src[2])<<16
		size := header >> 3
		if header>>1&3 == rle {
			size = 1
		}
		src = src[headerLen:]
		src = src[min(len(src), size):]
		if header&1 == 1 {
			return src
		}
	}
	return nil
}

// zstdDecoder decodes frames block by block, in the caller's goroutine. To decode a frame in one step would allocate the
// size that its header announces. The zstd.Decoder is made when it is first needed.
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

// zstdError wraps an error about a window over MaxWindow in ErrTooLarge, and returns other errors as they are. The window of
// a frame in a single segment is the size of its content.
func zstdError(err error) error {
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return fmt.Errorf("%w: wants a window of more than %d bytes: %w", ErrTooLarge, MaxWindow, err)
	}
	return err
}

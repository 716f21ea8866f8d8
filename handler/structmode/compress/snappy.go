package compress

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"
)

// snappyFormat is snappy's framing format, which gRPC implementations use. A message that does not start with the stream
// identifier of the framing format is decoded as one snappy block.
//
// The framing format has no end mark: a message that was cut between two chunks decodes to less, without an error.
type snappyFormat struct{}

// snappyIdentifier is the first chunk of the framing format (framing_format.txt, section 4.1).
const snappyIdentifier = "\xff\x06\x00\x00sNaPpY"

var (
	snappyInflaters = sync.Pool{New: func() any { return &inflater{decoder: new(snappyDecoder)} }}
	snappyDeflaters = sync.Pool{New: func() any {
		return &deflater{encoder: s2.NewWriter(nil, s2.WriterSnappyCompat(), s2.WriterConcurrency(1),
			s2.WriterBlockSize(64<<10))} // the largest block that snappy allows
	}}
)

// The memory of a decoder and an encoder: a few blocks.
const (
	snappyDecoderBytes = 192 << 10
	snappyEncoderBytes = 256 << 10
)

func (snappyFormat) decompress(src []byte, limit int64, room Room) ([]byte, error) {
	if !bytes.HasPrefix(src, []byte(snappyIdentifier)) {
		return decodeSnappyBlock(src, limit, room)
	}
	f := snappyInflaters.Get().(*inflater)
	defer snappyInflaters.Put(f)
	return f.inflate(src, limit, room, snappyDecoderBytes)
}

func (snappyFormat) compress(dst, src []byte, room Room) ([]byte, error) {
	if len(src) == 0 {
		// The encoder would write nothing, which is not a message of the framing format.
		return encoded(dst, src, room, 0, func() ([]byte, error) { return append(dst, snappyIdentifier...), nil })
	}
	d := snappyDeflaters.Get().(*deflater)
	defer snappyDeflaters.Put(d)
	return d.deflate(dst, src, room, snappyEncoderBytes)
}

// snappyDecoder decodes the framing format. Its reader is made when it is first needed.
type snappyDecoder struct{ *snappy.Reader }

func (d *snappyDecoder) reset(in *bytes.Reader) error {
	if d.Reader == nil {
		d.Reader = snappy.NewReader(in)
	} else {
		d.Reader.Reset(in)
	}
	return nil
}

// decodeSnappyBlock decodes the block format, which starts with the decoded size. It refuses a size to which src cannot
// decode: an element of 3 bytes decodes to at most 64 (format_description.txt, section 2).
func decodeSnappyBlock(src []byte, limit int64, room Room) ([]byte, error) {
	size, err := snappy.DecodedLen(src)
	switch {
	case err == nil && limit > 0 && int64(size) > limit:
		return nil, tooLarge(limit)
	case errors.Is(err, snappy.ErrTooLarge):
		return nil, fmt.Errorf("%w: %w", ErrTooLarge, err)
	case err != nil:
		return nil, corrupt(err)
	case size/64 > len(src)/3:
		return nil, corrupt(fmt.Errorf("%d bytes announced, more than the message can hold", size))
	}
	if err := room.Take(int64(size)); err != nil {
		return nil, err
	}
	out, err := snappy.DecodeStrict(make([]byte, size), src)
	if err != nil {
		room.Give(int64(size))
		return nil, corrupt(err)
	}
	return out, nil
}

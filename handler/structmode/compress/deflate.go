package compress

import (
	"bytes"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zlib"
)

// deflateFormat is the zlib format (RFC 1950), which is what HTTP and gRPC mean by deflate. It also decodes raw deflate data
// (RFC 1951), which some peers send by that name.
type deflateFormat struct{}

var (
	deflateInflaters = sync.Pool{New: func() any { return &inflater{decoder: new(deflateDecoder)} }}
	deflateDeflaters = sync.Pool{New: func() any {
		w, _ := zlib.NewWriterLevel(nil, zlib.BestSpeed) // fails only for a level that does not exist
		return &deflater{encoder: w}
	}}
)

// The memory of a decoder and an encoder, which are the same as those of gzip.
const (
	deflateDecoderBytes = gzipDecoderBytes
	deflateEncoderBytes = gzipEncoderBytes
)

func (deflateFormat) decompress(src []byte, limit int64, room Room) ([]byte, error) {
	f := deflateInflaters.Get().(*inflater)
	defer deflateInflaters.Put(f)
	return f.inflate(src, limit, room, deflateDecoderBytes)
}

func (deflateFormat) compress(dst, src []byte, room Room) ([]byte, error) {
	d := deflateDeflaters.Get().(*deflater)
	defer deflateDeflaters.Put(d)
	return d.deflate(dst, src, room, deflateEncoderBytes)
}

// deflateDecoder decodes both formats. Its readers are made when they are first needed.
type deflateDecoder struct {
	io.Reader // that of the current message: zlib or raw

	zlib io.ReadCloser // also a zlib.Resetter
	raw  io.ReadCloser // also a flate.Resetter
}

func (d *deflateDecoder) reset(in *bytes.Reader) error {
	first, err := in.ReadByte()
	if err != nil {
		return err
	}
	if err := in.UnreadByte(); err != nil {
		return err
	}
	// RFC 1950 §2.2: the low four bits of the first byte are the method, 8. RFC 1951 §3.2.3: raw data that starts so
	// is a stored block whose padding is not zero, which no encoder writes. So 8 is zlib, whatever else is wrong with
	// it.
	if first&0x0f == 8 {
		return d.resetZlib(in)
	}
	return d.resetRaw(in)
}

func (d *deflateDecoder) resetZlib(in *bytes.Reader) (err error) {
	if d.zlib == nil {
		d.zlib, err = zlib.NewReader(in)
	} else {
		err = d.zlib.(zlib.Resetter).Reset(in, nil)
	}
	d.Reader = d.zlib
	return err
}

func (d *deflateDecoder) resetRaw(in *bytes.Reader) (err error) {
	if d.raw == nil {
		d.raw = flate.NewReader(in)
	} else {
		err = d.raw.(flate.Resetter).Reset(in, nil)
	}
	d.Reader = d.raw
	return err
}

package compress

import "io"

// encoder writes one message after another; Close ends a message.
type encoder interface {
	io.WriteCloser
	Reset(w io.Writer)
}

// deflater is an encoder with the slice that it writes to. It is pooled, and between messages it holds nothing of
// theirs.
type deflater struct {
	encoder encoder
	out     appender
}

// deflate appends the encoding of src to dst.
func (d *deflater) deflate(dst, src []byte) ([]byte, error) {
	d.out.b = dst
	defer func() { d.out.b = nil }()
	d.encoder.Reset(&d.out)
	if _, err := d.encoder.Write(src); err != nil {
		return nil, err
	}
	if err := d.encoder.Close(); err != nil {
		return nil, err
	}
	return d.out.b, nil
}

// appender is an io.Writer to the end of a slice.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

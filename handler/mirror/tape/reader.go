package tape

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	v1 "github.com/framegate/framegate/kitex_gen/framegate/v1"
)

// Entry is an entry of a file; see idl/tape.proto.
type Entry = v1.TapeEntry

var (
	// ErrNoTape means that a file does not begin as one of a Recorder does.
	ErrNoTape = errors.New("not a recording of framegate")

	// ErrTorn means that a file ends within an entry, because its writer was killed. All entries before that were read.
	ErrTorn = errors.New("the file ends within an entry")
)

// maxEntryBytes bounds an entry: the longest message that framegate forwards, and what is beside it.
const maxEntryBytes = 1<<32 + 1<<20

// Reader reads a file entry by entry.
type Reader struct {
	in     *bufio.Reader
	Header *v1.TapeHeader
}

// NewReader reads the header of a file. It fails with ErrNoTape if there is none, or names the version if it is another one.
func NewReader(in io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 64<<10)}
	e, err := r.next()
	switch {
	case err != nil || e.Header == nil:
		return nil, ErrNoTape
	case e.Header.Version != version:
		return nil, fmt.Errorf("a recording of version %d, want %d", e.Header.Version, version)
	}
	r.Header = e.Header
	return r, nil
}

// Next returns the next entry. It fails with io.EOF at the end of the file, with ErrTorn if that is within an entry, and with another
// error for what is no entry.
func (r *Reader) Next() (*Entry, error) { return r.next() }

func (r *Reader) next() (*Entry, error) {
	length, err := binary.ReadUvarint(r.in)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, ErrTorn
	case err != nil:
		return nil, err
	case length > maxEntryBytes:
		return nil, fmt.Errorf("an entry of %d bytes, want at most %d", length, int64(maxEntryBytes))
	}
	var body bytes.Buffer // grows with what is there, not with what the length says
	if n, err := io.CopyN(&body, r.in, int64(length)); err != nil {
		if errors.Is(err, io.EOF) && n < int64(length) {
			return nil, ErrTorn
		}
		return nil, err
	}
	e := new(Entry)
	if err := e.Unmarshal(body.Bytes()); err != nil {
		return nil, fmt.Errorf("an entry that cannot be decoded: %w", err)
	}
	return e, nil
}

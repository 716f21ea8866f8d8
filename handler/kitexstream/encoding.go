package kitexstream

import (
	"fmt"
	"io"
	"sync"

	"github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding"
	_ "github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding/gzip" // registers gzip
)

// builtinEncodings are the encodings that are forwarded without configuration, beside gzip.
var builtinEncodings = []string{"identity", "deflate", "snappy", "zstd"}

// encodingsMu serializes RegisterEncodings: Kitex's registry of compressors has no lock of its own.
var encodingsMu sync.Mutex

// RegisterEncodings makes Kitex forward the names as grpc-encoding of answers: Kitex leaves the header out for a name that
// is not registered. It must be called before any server of the process runs. Names that are registered already are ignored.
func RegisterEncodings(names []string) {
	encodingsMu.Lock()
	defer encodingsMu.Unlock()
	for _, list := range [][]string{builtinEncodings, names} {
		for _, name := range list {
			if encoding.GetCompressor(name) == nil {
				encoding.RegisterCompressor(forwardedEncoding(name))
			}
		}
	}
}

// forwardedEncoding is the name of an encoding that Kitex forwards. Kitex never reads or writes a message with it.
type forwardedEncoding string

func (e forwardedEncoding) Name() string { return string(e) }

func (e forwardedEncoding) Compress(io.Writer) (io.WriteCloser, error) {
	return nil, fmt.Errorf("grpc-encoding %q is forwarded, not written here", string(e))
}

func (e forwardedEncoding) Decompress(io.Reader) (io.Reader, error) {
	return nil, fmt.Errorf("grpc-encoding %q is forwarded, not read here", string(e))
}

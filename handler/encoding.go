package handler

import (
	"fmt"
	"io"
	"sync"

	"github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding"
	_ "github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding/gzip" // registers gzip, which our own services also read
)

// builtinEncodings are forwarded without configuration, like gzip.
var builtinEncodings = []string{"identity", "deflate", "snappy", "zstd"}

// encodingsMu guards Kitex's registry of compressors, which has no lock of its own, against two RegisterEncodings.
var encodingsMu sync.Mutex

// RegisterEncodings makes Kitex write the names as grpc-encoding of answers: it leaves the header out for a name that
// is not registered. Call it before any server of the process runs; names that are known already change nothing.
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

// forwardedEncoding is the name of an encoding whose messages are forwarded and never decoded here.
type forwardedEncoding string

func (e forwardedEncoding) Name() string { return string(e) }

func (e forwardedEncoding) Compress(io.Writer) (io.WriteCloser, error) {
	return nil, fmt.Errorf("grpc-encoding %q is forwarded, not written here", string(e))
}

func (e forwardedEncoding) Decompress(io.Reader) (io.Reader, error) {
	return nil, fmt.Errorf("grpc-encoding %q is forwarded, not read here", string(e))
}

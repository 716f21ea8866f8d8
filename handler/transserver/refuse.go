package transserver

import (
	"bytes"
	"net"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/framegate/framegate/pool/h2conn"
	"github.com/framegate/framegate/resolver/plain"
)

// Refusal describes a request that is not gRPC.
type Refusal struct {
	Fault  Fault
	Detail string              // what was received and what is wanted, in ASCII; empty if Fault says it all
	Fields []hpack.HeaderField // of the request; only the first ones if the request's fields are too large
	Client net.Addr
}

// Answer is the response to a Refusal.
type Answer struct {
	Status  int                 // HTTP status
	Code    int                 // grpc-status
	Message string              // grpc-message, not encoded
	Fields  []hpack.HeaderField // further fields, with names in lower case
}

// Refuse returns the answer to a request that is not gRPC. It is called by the goroutine that reads the connection: it must
// not block, and it must keep nothing of the Refusal.
type Refuse func(r *Refusal) Answer

// refuse sends the answer to the request of a header block: one HEADERS frame that ends the stream.
func (c *conn) refuse(b *h2conn.Block, fault Fault, detail string) {
	a := c.plane.cfg.Refuse(&Refusal{Fault: fault, Detail: detail, Fields: b.Fields, Client: c.RemoteAddr()})
	var block bytes.Buffer
	// The fields are never indexed: only the transport's encoder may change the dynamic table of the client's decoder.
	enc := hpack.NewEncoder(&block)
	field := func(name, value string) {
		_ = enc.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: true}) // a bytes.Buffer takes everything
	}
	field(":status", strconv.Itoa(a.Status))
	field("content-type", "application/grpc")
	field("grpc-status", strconv.Itoa(a.Code))
	field("grpc-message", plain.Percent(a.Message))
	for _, f := range a.Fields {
		field(f.Name, f.Value)
	}
	p := append(h2conn.AppendFrameHeader(nil, h2conn.FrameHeader{
		Length: block.Len(), Type: http2.FrameHeaders, Flags: http2.FlagHeadersEndHeaders | http2.FlagHeadersEndStream, Stream: b.Stream,
	}), block.Bytes()...)
	if !b.EndStream {
		p = h2conn.AppendReset(p, b.Stream, http2.ErrCodeNo) // RFC 9113 §8.1: the rest of the request is not wanted
	}
	c.send(p)
}

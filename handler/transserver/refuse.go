package transserver

import (
	"bytes"
	"net"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/framegate/framegate/pool/h2conn"
)

// Refusal is a request that is no call.
type Refusal struct {
	Fault  Fault
	Detail string              // what came and what was wanted, in ASCII; empty if Fault says it all
	Fields []hpack.HeaderField // of the request; of one that is too large, the first ones
	Client net.Addr
}

// Answer is what the client of a Refusal is told.
type Answer struct {
	Status  int // of HTTP
	Code    int // of gRPC
	Message string
	Fields  []hpack.HeaderField // further ones, with names in lower case
}

// Refuse says what the client of a request that is no call is told. It is called by the goroutine that reads the
// connection, must not block, and keeps nothing of the Refusal.
type Refuse func(r *Refusal) Answer

// refuse answers the request of a block.
func (c *conn) refuse(b *h2conn.Block, fault Fault, detail string) {
	a := c.server.cfg.Refuse(&Refusal{Fault: fault, Detail: detail, Fields: b.Fields, Client: c.RemoteAddr()})
	var block bytes.Buffer
	// None of it may go into the table that the transport's encoder shares with the client: it is never indexed.
	enc := hpack.NewEncoder(&block)
	field := func(name, value string) {
		_ = enc.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: true}) // a bytes.Buffer takes everything
	}
	field(":status", strconv.Itoa(a.Status))
	field("content-type", "application/grpc")
	field("grpc-status", strconv.Itoa(a.Code))
	field("grpc-message", encodeMessage(a.Message))
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

// encodeMessage encodes a grpc-message (gRPC over HTTP/2, "Responses").
func encodeMessage(s string) string {
	const hex = "0123456789ABCDEF"
	var b []byte
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			b = append(b, '%', hex[c>>4], hex[c&0xf])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

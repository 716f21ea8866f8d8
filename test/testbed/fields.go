package testbed

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// Fields is a header block, in wire order.
type Fields []hpack.HeaderField

// String returns the fields for the text of a failure, with long values cut.
func (f Fields) String() string {
	var parts []string
	for _, hf := range f {
		parts = append(parts, fmt.Sprintf("%s=%.60q", hf.Name, hf.Value))
	}
	return "[" + strings.Join(parts, " ") + "]"
}

// NewFields returns fields made of names and values in turn.
func NewFields(pairs ...string) Fields {
	return Fields(nil).With(pairs...)
}

// With returns f and the fields made of names and values in turn; f stays as it is.
func (f Fields) With(pairs ...string) Fields {
	out := append(Fields(nil), f...)
	for i := 0; i+1 < len(pairs); i += 2 {
		out = append(out, hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return out
}

// Replace returns f with the value of the field of that name changed; f stays as it is.
func (f Fields) Replace(name, value string) Fields {
	out := append(Fields(nil), f...)
	for i := range out {
		if out[i].Name == name {
			out[i].Value = value
		}
	}
	return out
}

// Values returns every value of name in order, nil when there is none.
func (f Fields) Values(name string) []string {
	var values []string
	for _, hf := range f {
		if hf.Name == name {
			values = append(values, hf.Value)
		}
	}
	return values
}

// Get returns the first value of name.
func (f Fields) Get(name string) string {
	for _, hf := range f {
		if hf.Name == name {
			return hf.Value
		}
	}
	return ""
}

// Has reports whether there is a field of that name, even with an empty value.
func (f Fields) Has(name string) bool { return f.Values(name) != nil }

// Binary returns every value of a -bin name, decoded. A value that is not base64 is returned as it is.
func (f Fields) Binary(name string) []string {
	var values []string
	for _, v := range f.Values(name) {
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
		if err != nil {
			values = append(values, v)
			continue
		}
		values = append(values, string(b))
	}
	return values
}

// Authority is the :authority of RequestFields.
const Authority = "svc.example.com:8443"

// Method is the :path of RequestFields and the method that DialGRPC's clients call.
const Method = "/test.Raw/Call"

// RequestFields returns the header block of a gRPC request to Method, and then the fields made of pairs.
func RequestFields(pairs ...string) Fields {
	return NewFields(
		":method", "POST",
		":scheme", "http",
		":path", Method,
		":authority", Authority,
		"content-type", "application/grpc",
		"te", "trailers",
	).With(pairs...)
}

// ResponseFields returns the header block that begins a gRPC response, and then the fields made of pairs.
func ResponseFields(pairs ...string) Fields {
	return NewFields(":status", "200", "content-type", "application/grpc").With(pairs...)
}

// StatusFields returns the trailers of a gRPC response, and then the fields made of pairs. message is already encoded.
func StatusFields(code int, message string, pairs ...string) Fields {
	return NewFields("grpc-status", strconv.Itoa(code), "grpc-message", message).With(pairs...)
}

// decodeGRPCMessage decodes the percent-encoding of grpc-message. A % without two hexadecimal digits stands for itself, as
// the gRPC specification says.
func decodeGRPCMessage(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// HeaderBlock encodes fields as the header block of a connection's first HEADERS.
func HeaderBlock(fields Fields) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, f := range fields {
		_ = enc.WriteField(f) // a bytes.Buffer never fails
	}
	return b.Bytes()
}

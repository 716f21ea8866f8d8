package sink

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/framegate/framegate/resolver/spec"
)

// encoder makes records of events. It is owned by one goroutine.
//
// A record is a JSON object in one line:
//
//	id         text: of the call
//	route      text: its name
//	method     text: such as /pkg.Service/Method
//	direction  "request" or "response"
//	time       text: of the message, RFC 3339 in UTC with nanoseconds
//	@timestamp the same; for Elasticsearch only, whose data streams want it
//	metadata   object of texts: the request's, by name; several values of a name are joined with ", "; "[REDACTED]" for those
//	           that are not to be shown. Names that end in -bin have base64 (RFC 4648 §4, with padding). Elsewhere a byte is the
//	           character of that number, as browsers and servers read header fields (Fetch standard, "isomorphic decode"), so
//	           that ASCII, which gRPC allows alone, is itself, and any other bytes can be told from the text
//	payload    text: the message in base64, with padding
//	message    any JSON: the decoded message; it is missing if there is no schema or the payload does not follow it
type encoder struct {
	redact    map[string]bool // names of metadata
	timestamp bool            // whether records have @timestamp
	names     []string        // scratch
}

// newEncoder returns an encoder that hides the values of the metadata named in redact, or of spec.DefaultRedact if it is nil.
func newEncoder(redact []string) *encoder {
	n := &encoder{redact: map[string]bool{}}
	for _, name := range spec.RedactOr(redact) {
		n.redact[strings.ToLower(name)] = true
	}
	return n
}

// append appends the record of e to b.
func (n *encoder) append(b []byte, e *Event) []byte {
	b = appendText(append(b, `{"id":`...), e.ID)
	b = appendText(append(b, `,"route":`...), e.Route)
	b = appendText(append(b, `,"method":`...), e.Method)
	b = appendText(append(b, `,"direction":`...), string(e.Direction))
	b = appendTime(append(b, `,"time":`...), e.Time)
	if n.timestamp {
		b = appendTime(append(b, `,"@timestamp":`...), e.Time)
	}
	b = n.appendMetadata(append(b, `,"metadata":`...), e.Metadata)
	b = append(b, `,"payload":"`...)
	b = append(base64.StdEncoding.AppendEncode(b, e.Payload), '"')
	if e.Message != nil {
		if m := oneLine(e.Message()); m != nil {
			b = append(append(b, `,"message":`...), m...)
		}
	}
	return append(b, '}')
}

func (n *encoder) appendMetadata(b []byte, md map[string][]string) []byte {
	n.names = n.names[:0]
	for name := range md {
		n.names = append(n.names, name)
	}
	slices.Sort(n.names)
	b = append(b, '{')
	for i, name := range n.names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, name), ':')
		if n.redact[name] {
			b = append(b, `"`+spec.Redacted+`"`...)
			continue
		}
		b = append(b, '"')
		binary := strings.HasSuffix(name, "-bin")
		for j, v := range md[name] {
			if j > 0 {
				b = append(b, ", "...)
			}
			if binary {
				b = base64.StdEncoding.AppendEncode(b, []byte(v))
			} else {
				b = appendInner(b, v)
			}
		}
		b = append(b, '"')
	}
	return append(b, '}')
}

func appendTime(b []byte, t time.Time) []byte {
	return append(t.UTC().AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

// appendText appends the JSON string in which each byte of s is the character of that number.
func appendText(b []byte, s string) []byte { return append(appendInner(append(b, '"'), s), '"') }

// appendInner is appendText without the quotation marks.
func appendInner(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c >= 0xa0:
			b = utf8.AppendRune(b, rune(c))
		default: // control characters, those of ISO 8859-1 too
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
	}
	return append(b, s[from:]...)
}

// oneLine returns m without line breaks, which would end a record before its end. It returns nil if m is no JSON.
func oneLine(m json.RawMessage) []byte {
	if !json.Valid(m) || !utf8.Valid(m) { // json.Valid takes any bytes in strings
		return nil
	}
	if bytes.IndexByte(m, '\n') < 0 && bytes.IndexByte(m, '\r') < 0 {
		return m
	}
	var b bytes.Buffer
	if json.Compact(&b, m) != nil {
		return nil
	}
	return b.Bytes()
}

// maxSpare bounds the memory that is kept for the next record, in bytes.
const maxSpare = 1 << 20

// spare returns b for the next record, or nil if that would keep too much memory.
func spare(b []byte) []byte {
	if cap(b) > maxSpare {
		return nil
	}
	return b[:0]
}

// size returns the memory that e takes, not counting its decoded message.
func (e *Event) size() int64 {
	n := len(e.ID) + len(e.Method) + len(e.Payload)
	for name, values := range e.Metadata {
		n += len(name)
		for _, v := range values {
			n += len(v)
		}
	}
	return int64(n)
}

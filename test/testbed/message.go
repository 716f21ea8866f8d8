package testbed

import (
	"encoding/binary"
	"fmt"
)

// Message is one gRPC length-prefixed message as it is on the wire.
type Message struct {
	Flag    byte // 1: the payload is compressed
	Payload []byte
}

const prefixLen = 5

// Prefix returns the five bytes before a payload of length bytes.
func Prefix(flag byte, length uint32) []byte {
	b := make([]byte, prefixLen)
	b[0] = flag
	binary.BigEndian.PutUint32(b[1:], length)
	return b
}

// Bytes returns the prefix and the payload.
func (m Message) Bytes() []byte {
	return append(Prefix(m.Flag, uint32(len(m.Payload))), m.Payload...)
}

// Frame returns the payload as the bytes of an uncompressed message.
func Frame(payload []byte) []byte { return Message{Payload: payload}.Bytes() }

// cutMessage cuts the first whole message from b. ok is false if there is none.
func cutMessage(b []byte) (m Message, rest []byte, ok bool) {
	if len(b) < prefixLen {
		return Message{}, b, false
	}
	n := int(binary.BigEndian.Uint32(b[1:]))
	if len(b)-prefixLen < n {
		return Message{}, b, false
	}
	return Message{Flag: b[0], Payload: b[prefixLen : prefixLen+n]}, b[prefixLen+n:], true
}

// Messages splits body into messages. Bytes left after the last whole message are an error.
func Messages(body []byte) ([]Message, error) {
	var all []Message
	for len(body) > 0 {
		m, rest, ok := cutMessage(body)
		if !ok {
			return all, fmt.Errorf("testbed: %d bytes after message %d are no whole message", len(body), len(all))
		}
		all, body = append(all, m), rest
	}
	return all, nil
}

// Package codec lets grpc-go use the messages that Kitex generated.
package codec

import "fmt"

// Proto is a grpc-go codec.
type Proto struct{}

type message interface {
	Marshal(out []byte) ([]byte, error)
	Unmarshal(in []byte) error
}

// Name implements encoding.Codec.
func (Proto) Name() string { return "proto" }

// Marshal implements encoding.Codec.
func (Proto) Marshal(v any) ([]byte, error) {
	m, ok := v.(message)
	if !ok {
		return nil, fmt.Errorf("message of type %T, want one of kitex_gen", v)
	}
	return m.Marshal(nil)
}

// Unmarshal implements encoding.Codec.
func (Proto) Unmarshal(data []byte, v any) error {
	m, ok := v.(message)
	if !ok {
		return fmt.Errorf("message of type %T, want one of kitex_gen", v)
	}
	return m.Unmarshal(data)
}

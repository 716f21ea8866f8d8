// Package wire keeps the fields of a protobuf message that a Go type does not know, when the message is decoded into
// that type, changed, and encoded again.
//
// The types that Kitex generates have no place for unknown fields: a service whose schema is newer than framegate's
// would lose them. Merge puts them back from the bytes that came. Types of google.golang.org/protobuf keep unknown
// fields themselves and need no merge: for these, the encoding after the change is the answer, and Merge returns it.
//
// Enter at Message.Merge; then shape.go (what a Go type says of its encoding), span.go (which fields differ),
// change.go (one field that differs), list.go and entries.go (repeated messages and maps), merge.go (the message put
// together).
package wire

import "errors"

// MaxDepth is how many messages may lie in each other, counted only where they differ.
const MaxDepth = 100

var (
	// ErrMalformed says that a message is not valid protobuf, or larger than the 2 GiB that protobuf allows.
	ErrMalformed = errors.New("malformed protobuf")

	// ErrTooDeep says that messages that differ lie in each other more than MaxDepth deep.
	ErrTooDeep = errors.New("messages nested too deep")

	// ErrAmbiguous says that the original holds more of a changed field than the type's decoder made of it, so that no
	// merge is sure to be right. Such messages are odd: a list in several packed pieces, or a map entry with two keys.
	// The message is to be refused.
	ErrAmbiguous = errors.New("field was not decoded as it was sent")
)

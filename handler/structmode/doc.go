// Package structmode decodes the messages of calls, has rules and filters look at them and change them, and encodes them again.
//
// Enter at Mode.Begin; then structure.go (what becomes of one message), decode.go and message.go (the content-subtypes), and
// filter.go (filters in Go, whose types generated.go encodes). program.go is what a route makes of its rules and its schema;
// reflected.go asks endpoints for a schema. work.go counts what is worked on: package budget bounds what all messages take.
//
// Below it are rule (the rules of a route), compress (the codings of grpc-encoding) and reflection (grpc.reflection's client).
package structmode

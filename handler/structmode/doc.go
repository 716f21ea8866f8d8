// Package structmode decodes the messages of calls, applies rules and filters to them, and encodes them again if they were
// changed.
//
// Enter at Mode.Begin, which makes the Transformer of a call; then transformer.go (the steps that one message goes through),
// decode.go and message.go (decoding, by content-subtype) and filter.go (filters in Go, whose types generated.go decodes and
// encodes). program.go compiles the rules and the schema of a route; reflected.go asks an endpoint for the schema. work.go
// counts the messages that are being worked on. Package budget bounds the memory of all messages.
//
// Packages below it: rule (the rules of a route), compress (the encodings of grpc-encoding) and reflection (the client of
// grpc.reflection).
package structmode

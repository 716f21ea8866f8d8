// Package kitexstream connects package handler with a Kitex server. Its Stream is the client's side of a call: the HTTP/2 stream
// and the transport of its connection, out of the value that Kitex passes to the handler of an unknown method. It reads
// unexported fields of Kitex's types by their offsets, so a binary must call CheckLayout before it serves.
//
// Enter at Handler; then stream.go. builtin.go guards framegate's builtin services, gate.go refuses calls before they have a
// goroutine, and encoding.go makes Kitex forward the names of encodings.
package kitexstream

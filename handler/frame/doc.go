// Package frame copies gRPC frames from one stream to another (gRPC over HTTP/2, "Length-Prefixed-Message").
//
// Enter at Redirect, which is one direction of a call. RedirectFrame copies until the source ends: in pieces whose size does
// not grow with the messages or, with a Taker, message by message. Reader and Writer are the two streams, and Taker is
// struct mode. piece.go allocates the pieces, which Kitex recycles. Splitter and Assembler find the messages in a stream, and Cursor makes a
// stream of messages.
package frame

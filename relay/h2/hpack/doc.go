// Package hpack compresses and reads HTTP/2 header blocks (HPACK, RFC 7541) for a proxy that forwards the same fields over and over.
//
// A Field is immutable and shared by all who carry it: what depends on one field alone (its kind, its faults, how it is
// written) is worked out once, when an Interner makes it. A Decoder turns the blocks of one connection into Fields, an Encoder
// writes Fields to one connection.
//
// Enter at Decoder.Decode; then Interner.Field; then Encoder.Append. wire.go has the integers and strings of RFC 7541 section 5,
// table.go the dynamic table that Decoder and Encoder have in common.
//
// Nothing here locks: an Interner, its Decoders and the Encoders that write its Fields belong to one goroutine at a time.
package hpack

// Package hpack compresses and reads HTTP/2 header blocks (HPACK, RFC 7541) for a proxy that forwards the same fields over and over.
//
// A Field is immutable and shared by all who carry it: what depends on one field alone (its kind, its faults, how it is
// written) is worked out once, when an Interner makes it. A Decoder turns the blocks of one connection into Fields, an Encoder
// writes Fields to one connection.
//
// Enter at Decoder.Decode; then Interner.Field; then Encoder.Append. wire.go has the integers and strings of RFC 7541 section 5,
// table.go the dynamic table that Decoder and Encoder have in common.
//
// # What was measured
//
// These are nanoseconds for a block of a connection that has carried it before, and its bytes; the lower quartile of 48 runs of the
// benchmarks on a busy machine. The request is that of grpc-go's client with two metadata fields, 10 in all, and a timeout that differs.
// In brackets is golang.org/x/net/http2/hpack, whose encoder is that client's.
//
//	                          encode                    literals only   decode
//	request                   41 ns   32 bytes (734)    27 ns   192     269 ns (298)
//	request, no timeout       39 ns   10 bytes (504)    22 ns   170      28 ns (141)
//	response                   7 ns    2 bytes  (74)     6 ns    20       9 ns  (29)
//	trailers                  11 ns    2 bytes (100)     8 ns    30       9 ns  (30)
//
// So the Encoder has a table: it costs 17 ns a request and saves 160 bytes, and with them what the peer would spend on reading them.
// Where more fields are in use than its table can have, such as the tokens of 64 clients of 200 bytes each, it costs 100 ns.
//
// An Interner finds a field in 30 ns and makes one in 110 to 190. Timeouts go through it like any other field: those of calls with
// one deadline differ by microseconds and come again soon, and those that never do drive out only each other.
//
// Nothing here locks: an Interner, its Decoders and the Encoders that write its Fields belong to one goroutine at a time.
package hpack

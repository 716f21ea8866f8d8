// Package downstream is the client's side of a call. It takes the HTTP/2 stream, and the transport of its connection, out of
// the value that Kitex passes to the handler of an unknown method. It reads unexported fields of Kitex's types by their
// offsets, so a binary must call CheckLayout before it serves.
package downstream

// Package downstream is the client's side of a call, taken out of what Kitex hands to the handler of an unknown method: the
// stream, and the transport of the connection that it came on. It reads fields of Kitex's types by their place: a binary calls
// CheckLayout before it serves.
package downstream

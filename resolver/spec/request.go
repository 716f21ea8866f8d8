package spec

import "net"

// Request is what of a call decides its route. The resolver keeps nothing of it.
type Request struct {
	Listener  string
	Method    string              // "/pkg.Service/Method"
	Authority string              // :authority as sent; empty if none was
	Header    map[string][]string // all values by lower-case name; may be nil
	Peer      net.Addr            // the other end of the client's connection; may be nil; a *net.TCPAddr has an IP address
}

package spec

import "net"

// Request has the parts of a call that decide its route. The resolver keeps none of them.
type Request struct {
	Listener  string
	Method    string              // "/pkg.Service/Method"
	Authority string              // :authority as sent; empty if none was
	Header    map[string][]string // all values by lower-case name; may be nil
	Peer      net.Addr            // the other end of the client's connection; may be nil; a *net.TCPAddr has an IP address
}

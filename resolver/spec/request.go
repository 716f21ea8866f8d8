package spec

import "net"

// Request has the parts of a call that decide its route. The resolver keeps none of them.
type Request struct {
	Listener  string
	Method    string   // "/pkg.Service/Method"
	Authority string   // :authority as sent; empty if none was
	Header    Fields   // may be nil
	Peer      net.Addr // the other end of the client's connection; may be nil; a *net.TCPAddr has an IP address
}

// Fields are the header fields of a request.
type Fields interface {
	// Values returns the values of the fields with a name in lower case, in their order. The caller must not change them.
	Values(name string) []string
}

// Header is Fields in a map, by name.
type Header map[string][]string

// Values implements Fields.
func (h Header) Values(name string) []string { return h[name] }

// Values returns the values of the fields with a name in lower case.
func (r *Request) Values(name string) []string {
	if r.Header == nil {
		return nil
	}
	return r.Header.Values(name)
}

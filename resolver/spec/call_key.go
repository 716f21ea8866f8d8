package spec

import (
	"fmt"
	"net"
)

// CallKey names the part of a call by which calls are told apart. Exactly one of the fields is set.
type CallKey struct {
	Header    string `yaml:"header,omitempty"`    // the first value of that request header
	Authority bool   `yaml:"authority,omitempty"` // the :authority that the client sent
	Peer      bool   `yaml:"peer,omitempty"`      // the IP address that the client's connection comes from
}

// String returns the key on one line, for people.
func (k CallKey) String() string {
	switch {
	case k.Header != "":
		return "header " + k.Header
	case k.Authority:
		return "authority"
	}
	return "peer"
}

// problems returns every mistake of a key. Its errors are to be appended to the path of the key, without a space.
func (k CallKey) problems() (errs []error) {
	set := 0
	for _, is := range []bool{k.Header != "", k.Authority, k.Peer} {
		if is {
			set++
		}
	}
	if set != 1 {
		errs = append(errs, fmt.Errorf(": %d of header, authority and peer, want one", set))
	}
	if k.Header != "" {
		if err := validHeaderName(k.Header); err != nil {
			errs = append(errs, fmt.Errorf(".header: %w", err))
		}
	}
	return errs
}

// Of returns the part of the call that the key names: as text, or as the bytes of an IP address, which are not copied. Both
// are empty if the call does not have it. It does not allocate.
func (k CallKey) Of(req *Request) (text string, ip net.IP) {
	switch {
	case k.Header != "":
		if v := req.Values(k.Header); len(v) > 0 {
			return v[0], nil
		}
		return "", nil
	case k.Authority:
		return req.Authority, nil
	}
	a, ok := req.Peer.(*net.TCPAddr)
	if !ok {
		return "", nil
	}
	if four := a.IP.To4(); four != nil { // a listener of both families gives IPv4 addresses in 16 bytes
		return "", four
	}
	return "", a.IP
}

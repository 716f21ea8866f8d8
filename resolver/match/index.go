package match

import (
	"github.com/framegate/framegate/resolver/spec"
)

// index finds the candidates of a long bucket by a value that they want exactly: of a header, or the authority. Each
// candidate is under one key, or in rest, whose candidates are compared with the call one by one.
type index struct {
	headers []headerIndex
	hosts   map[string][]ranked // by authority in lower case, with the port if the candidate has one
	domains map[string][]ranked // the same for authorities with a leading *. , without that
	rest    []ranked
}

// headerIndex finds candidates by the value of one header.
type headerIndex struct {
	name   string
	values map[string][]ranked
}

// ranked is a candidate with its index in the bucket, in which 0 is the strongest.
type ranked struct {
	*candidate
	rank int
}

func newIndex(list []*candidate) *index {
	x := &index{hosts: map[string][]ranked{}, domains: map[string][]ranked{}}
	for i, c := range list {
		r := ranked{c, i}
		switch h := c.exactHeader(); {
		case h != nil:
			values := x.valuesOf(h.Name)
			values[*h.Exact] = append(values[*h.Exact], r)
		case c.authority != "" && !c.wild:
			x.hosts[c.authority] = append(x.hosts[c.authority], r)
		case c.authority != "":
			x.domains[c.authority] = append(x.domains[c.authority], r)
		default:
			x.rest = append(x.rest, r)
		}
	}
	return x
}

// exactHeader returns the first condition on a header's exact value, or nil.
func (c *candidate) exactHeader() *spec.HeaderMatch {
	for i := range c.headers {
		if c.headers[i].doc.Exact != nil {
			return &c.headers[i].doc
		}
	}
	return nil
}

// valuesOf returns the map of the headerIndex of a header, which it makes if there is none.
func (x *index) valuesOf(name string) map[string][]ranked {
	for _, h := range x.headers {
		if h.name == name {
			return h.values
		}
	}
	h := headerIndex{name: name, values: map[string][]ranked{}}
	x.headers = append(x.headers, h)
	return h.values
}

// find returns the strongest candidate that the call meets, or nil. The call's authority has at most maxIndexedAuthority
// bytes.
func (x *index) find(req *spec.Request) *candidate {
	best := strongest(ranked{}, x.rest, req)
	for i := range x.headers {
		for _, v := range req.Values(x.headers[i].name) {
			best = strongest(best, x.headers[i].values[v], req)
		}
	}
	if len(x.hosts) > 0 || len(x.domains) > 0 {
		best = x.byAuthority(best, req)
	}
	return best.candidate
}

// maxIndexedAuthority bounds the authorities that an index is asked for, in bytes.
const maxIndexedAuthority = 256

// byAuthority returns the strongest of best and the candidates under the call's authority. It does not allocate.
func (x *index) byAuthority(best ranked, req *spec.Request) ranked {
	var buf [maxIndexedAuthority]byte
	full := buf[:copy(buf[:], req.Authority)]
	for i, c := range full {
		if 'A' <= c && c <= 'Z' {
			full[i] = c + 'a' - 'A'
		}
	}
	host := full[:len(hostOf(req.Authority))]
	best = strongest(best, x.hosts[string(host)], req)
	if len(host) < len(full) {
		best = strongest(best, x.hosts[string(full)], req)
	}
	if len(x.domains) == 0 {
		return best
	}
	for i, c := range host {
		if c != '.' {
			continue
		}
		best = strongest(best, x.domains[string(host[i+1:])], req)
		if len(host) < len(full) {
			best = strongest(best, x.domains[string(full[i+1:])], req)
		}
	}
	return best
}

// strongest returns the strongest of best, unless that is the zero value, and the candidates of a list that the call meets.
func strongest(best ranked, list []ranked, req *spec.Request) ranked {
	for _, r := range list {
		if best.candidate != nil && r.rank > best.rank {
			break
		}
		if r.meets(req) {
			return r
		}
	}
	return best
}

package resolver

import (
	"testing"
	"time"

	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// Whatever can be parsed can be put in force, and calls can go by it.
func FuzzApply(f *testing.F) {
	f.Add([]byte("routes:\n- {name: a, match: [{method: '*'}], backends: [{endpoints: [{address: 'h:1'}]}]}"))
	f.Add([]byte("{name: h, match: [{method: '*', authority: '*.a', headers: [{name: x-a, regex: 'a|b'}]}], backends: [{service: s, tags: {k: v}}]}"))
	f.Add([]byte(`{"name":"j","match":[{"method":"/a.*"}],"backends":[{"endpoints":[{"address":"h:1"}]}]}`))
	f.Add([]byte(`
name: p
match: [{method: '*'}]
balancer: {policy: consistent_hash, hash: {header: x-a}}
retry: {attempts: 3}
limits: {concurrent: 1, calls_per_second: 5, per: {peer: true}}
backends:
- {weight: 0, endpoints: [{address: 'h:1'}]}
- {ejection: {}, service: s}
`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		routes, err := spec.ParseRoutes(doc)
		if err != nil {
			return
		}
		for _, r := range routes {
			for i := range r.Backends {
				r.Backends[i].Health = nil // its checks would go to whatever addresses there are
			}
		}
		r := New()
		defer r.Close()
		r.Apply("file", bound(routes...))
		req := spec.Request{Method: "/a.b/c", Authority: "h:1", Header: spec.Header{"x-a": {"v"}}}
		if target, ok := resolve(r, req); ok {
			if target.Admit(&req, time.Now()) == nil {
				if a, err := target.Pick(time.Now()); err == nil {
					a.Answered()
					a.Done(cluster.Failed, time.Now())
				}
			}
			target.Release()
		}
	})
}

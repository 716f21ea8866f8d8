package admin

import (
	"net/http"
	"strings"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// explainAnswer says which route a call gets and why, and where it would go.
type explainAnswer struct {
	resolver.Explanation
	Target *targetAnswer `json:"target,omitempty"` // absent if no route matches
}

type targetAnswer struct {
	Backend string `json:"backend"`        // empty if it has no name, or if no backend has an endpoint
	Address string `json:"address"`        // empty if no endpoint may be used
	Name    string `json:"name,omitempty"` // the DNS name that resolved to the address
}

// explainAPI says which route a call would get, and where it would go.
type explainAPI struct {
	explain func(spec.Request) (resolver.Explanation, cluster.Target, bool)
}

func (api *explainAPI) get(w http.ResponseWriter, r *http.Request) error {
	if api.explain == nil {
		return notProvided("explain")
	}
	req, err := callOf(r)
	if err != nil {
		return err
	}
	explanation, target, ok := api.explain(req)
	answer := explainAnswer{Explanation: explanation}
	if ok {
		answer.Target = &targetAnswer{target.Backend, target.Address, target.Name}
	}
	return writeJSON(w, http.StatusOK, answer)
}

// callOf reads the call that the query describes.
func callOf(r *http.Request) (req spec.Request, err error) {
	for name, to := range map[string]*string{"method": &req.Method, "listener": &req.Listener, "authority": &req.Authority} {
		if *to, err = queryValue(r, name); err != nil {
			return req, err
		}
	}
	if p, err := spec.ParsePattern(req.Method); err != nil || p.Kind != spec.KindExact {
		return req, badParameter("method: %q, want /pkg.Service/Method", req.Method)
	}
	header := spec.Header{}
	req.Header = header
	for _, h := range r.URL.Query()["header"] {
		name, value, ok := strings.Cut(h, ":")
		if name = strings.ToLower(strings.TrimSpace(name)); !ok || name == "" {
			return req, badParameter("header: %q, want name:value", h)
		}
		header[name] = append(header[name], strings.TrimSpace(value))
	}
	return req, nil
}

package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/etcdsource"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/plain"
	"github.com/framegate/framegate/resolver/spec"
)

// The statuses of a route.
const (
	statusInForce  = "in_force"  // the last version is in force
	statusLastGood = "last_good" // the last version is bad, and an earlier one stays in force
	statusRejected = "rejected"  // the last version is bad, and there was no good one
	statusPending  = "pending"   // the last version is good, and on its way from etcd
)

// routeAnswer is the state of one route.
type routeAnswer struct {
	Name           string      `json:"name"`
	Source         string      `json:"source"`
	Status         string      `json:"status"`
	Revision       int64       `json:"revision"`        // of the version in force; 0 if none is, and for a file
	LatestRevision int64       `json:"latest_revision"` // of the last version; 0 for a file
	Error          string      `json:"error,omitempty"` // what is wrong with the last version
	Route          *spec.Route `json:"route,omitempty"` // the version in force, or the pending one
}

func newRouteAnswer(st resolver.RouteStatus) routeAnswer {
	a := routeAnswer{Name: st.Name, Source: st.Source, Status: statusInForce, Revision: st.Revision, LatestRevision: st.Latest, Route: st.Route}
	if st.Err != nil {
		a.Error, a.Status = plain.WithoutPasswords(st.Err.Error()), statusLastGood
		if st.Route == nil {
			a.Status = statusRejected
		}
	}
	return a
}

// sourceAnswer is resolver.SourceStatus in JSON.
type sourceAnswer struct {
	Revision   int64      `json:"revision"`
	Confirmed  *time.Time `json:"confirmed"` // null if never
	Stale      bool       `json:"stale"`
	Reason     string     `json:"reason,omitempty"`
	Rejected   int        `json:"rejected"`
	Rejections int64      `json:"rejections"`
}

func newSourceAnswer(st resolver.SourceStatus) *sourceAnswer {
	a := &sourceAnswer{Revision: st.Revision, Stale: st.Stale, Reason: st.Reason, Rejected: st.Rejected, Rejections: st.Rejections}
	if !st.Confirmed.IsZero() {
		confirmed := st.Confirmed.UTC()
		a.Confirmed = &confirmed
	}
	return a
}

// routesAPI shows the routes in force and changes those in etcd.
type routesAPI struct {
	routes            func() []resolver.RouteStatus
	source            func() resolver.SourceStatus
	bypasses          func(*spec.Route) []match.Bypass
	unreachableHealth func(*spec.Route) []match.Unreachable
	store             func() (*etcdstore.Routes, error)
	work              *work
	log               *slog.Logger
}

// list answers from memory: it shows the routes that this framegate goes by, even while etcd cannot be reached.
func (api *routesAPI) list(w http.ResponseWriter, _ *http.Request) error {
	if api.routes == nil {
		return notProvided("routes")
	}
	answer := struct {
		Source *sourceAnswer `json:"source,omitempty"`
		Routes []routeAnswer `json:"routes"`
	}{Routes: []routeAnswer{}}
	for _, st := range api.routes() {
		answer.Routes = append(answer.Routes, newRouteAnswer(st))
	}
	slices.SortFunc(answer.Routes, func(a, b routeAnswer) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Source, b.Source))
	})
	if api.source != nil {
		answer.Source = newSourceAnswer(api.source())
	}
	return writeJSON(w, http.StatusOK, answer)
}

// get asks etcd for the last version, so that a client sees what it has just put, with the ETag to change it. The version
// in force is from memory; so is everything if etcd cannot answer.
func (api *routesAPI) get(w http.ResponseWriter, r *http.Request) error {
	if api.routes == nil {
		return notProvided("routes")
	}
	name := r.PathValue("name")
	known, inMemory := api.inMemory(name)
	answer := newRouteAnswer(known)
	if !inMemory || known.Source == etcdsource.Name {
		switch found, err := api.inEtcd(r.Context(), name, &answer); {
		case err == nil && found:
			inMemory = true
		case err == nil:
			inMemory = false
		case !inMemory && !errors.Is(err, ErrNoEtcd):
			return err
		}
	}
	if !inMemory {
		return notFound("route %s: not found", name)
	}
	if answer.LatestRevision > 0 {
		w.Header().Set("ETag", etag(answer.LatestRevision))
	}
	return writeJSON(w, http.StatusOK, answer)
}

// inMemory returns the status of a route by its name: that of etcd's route, or else of another source's.
func (api *routesAPI) inMemory(name string) (found resolver.RouteStatus, ok bool) {
	for _, st := range api.routes() {
		if st.Name == name && (!ok || st.Source == etcdsource.Name) {
			found, ok = st, true
		}
	}
	return found, ok
}

// inEtcd updates a, the answer from memory, with the last version in etcd, and reports whether etcd has the route. The
// error says why etcd cannot be asked; a is then unchanged.
func (api *routesAPI) inEtcd(ctx context.Context, name string, a *routeAnswer) (bool, error) {
	store, err := storeOf(api.store)
	if err != nil {
		return false, err
	}
	if api.source != nil {
		if st := api.source(); st.Stale { // fail at once, not after etcdTimeout
			return false, noStore(fmt.Errorf("etcd cannot be reached: %s", st.Reason))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	stored, err := store.Get(ctx, name)
	var bad *etcdstore.DocumentError
	switch {
	case errors.Is(err, etcdstore.ErrNotFound):
		return false, nil
	case errors.As(err, &bad):
		*a = newRouteAnswer(resolver.RouteStatus{Name: name, Source: etcdsource.Name, Route: a.Route, Revision: a.Revision, Latest: bad.Revision, Err: bad.Err})
		return true, nil
	case err != nil:
		return false, storeProblem(err)
	}
	if a.LatestRevision == stored.Revision && a.Error != "" { // the document is well formed, but was rejected, say because its schema does not fit
		return true, nil
	}
	latest := newRouteAnswer(resolver.RouteStatus{Name: name, Source: etcdsource.Name, Route: stored.Route, Revision: a.Revision, Latest: stored.Revision})
	if a.Revision != stored.Revision {
		latest.Status = statusPending
	}
	*a = latest
	return true, nil
}

// putAnswer is what a PUT of a route did, or would do if it were no dry run.
type putAnswer struct {
	Name     string        `json:"name"`
	Outcome  match.Outcome `json:"outcome"`
	Revision int64         `json:"revision,omitempty"`
	DryRun   bool          `json:"dry_run,omitempty"`
	Plan     *match.Plan   `json:"plan,omitempty"`

	// Warnings about the stored route; those of a dry run are in its plan.
	Bypasses          []match.Bypass      `json:"bypasses,omitempty"`
	UnreachableHealth []match.Unreachable `json:"unreachable_health,omitempty"`
}

// outcomeValid is the outcome of a dry run without etcd: the document is valid, but there is nothing to compare it with.
const outcomeValid match.Outcome = "valid"

func (api *routesAPI) put(w http.ResponseWriter, r *http.Request) error {
	want, err := preconditionOf(r)
	if err != nil {
		return err
	}
	dryRun, err := queryBool(r, "dry_run")
	if err != nil {
		return err
	}
	var route *spec.Route
	if err := api.work.readDocument(r, func(doc []byte) (err error) {
		route, err = parseRoute(r.PathValue("name"), doc)
		return err
	}); err != nil {
		return err
	}
	if dryRun {
		return api.plan(w, r, route, want)
	}
	store, err := storeOf(api.store)
	if err != nil {
		return err
	}
	ctx, cancel := etcdContext(r)
	defer cancel()
	opts, err := want.options(ctx, store, route.Name)
	if err != nil {
		return err
	}
	result, err := store.Put(ctx, route, opts...)
	if err != nil {
		return storeProblem(err)
	}
	if result.Outcome != match.Unchanged {
		api.log.Info("admin: route put", "route", result.Name, "outcome", string(result.Outcome), "revision", result.Revision, "from", r.RemoteAddr)
	}
	status := http.StatusOK
	if result.Outcome == match.Created {
		status = http.StatusCreated
	}
	answer := putAnswer{Name: result.Name, Outcome: result.Outcome, Revision: result.Revision}
	if api.bypasses != nil {
		answer.Bypasses = api.bypasses(route)
	}
	answer.UnreachableHealth = api.unreachable(route)
	w.Header().Set("ETag", etag(result.Revision))
	return writeJSON(w, status, answer)
}

// parseRoute returns the route in doc. It is an error if the route has another name, or is too long to be stored.
func parseRoute(name string, doc []byte) (*spec.Route, error) {
	route, err := spec.ParseRoute(doc)
	if err != nil {
		return nil, err
	}
	if route.Name != name {
		return nil, fmt.Errorf("name: %q, want %q as in the path", route.Name, name)
	}
	stored, err := route.Encode()
	if err != nil {
		return nil, err
	}
	return spec.ParseRoute(stored) // the stored form may be longer than doc, and over the limit
}

// plan answers a dry run of a valid document: with a plan of what putting it would do, or outcomeValid without a store.
func (api *routesAPI) plan(w http.ResponseWriter, r *http.Request, route *spec.Route, want precondition) error {
	answer := putAnswer{Name: route.Name, Outcome: outcomeValid, DryRun: true}
	store, err := storeOf(api.store)
	if err != nil {
		answer.UnreachableHealth = api.unreachable(route)
		return writeJSON(w, http.StatusOK, answer)
	}
	ctx, cancel := etcdContext(r)
	defer cancel()
	opts, err := want.options(ctx, store, route.Name)
	if err != nil {
		return err
	}
	answer.Plan, err = store.Plan(ctx, match.Change{Put: []*spec.Route{route}}, opts...)
	if err != nil {
		return storeProblem(err)
	}
	answer.Plan.UnreachableHealth = api.unreachable(route)
	answer.Outcome, answer.Revision = answer.Plan.Routes[0].Outcome, answer.Plan.Routes[0].Revision
	return writeJSON(w, http.StatusOK, answer)
}

// unreachable is Control.UnreachableHealth. Its result is never nil, so that JSON has a list.
func (api *routesAPI) unreachable(route *spec.Route) []match.Unreachable {
	if api.unreachableHealth == nil {
		return []match.Unreachable{}
	}
	return api.unreachableHealth(route)
}

func (api *routesAPI) delete(w http.ResponseWriter, r *http.Request) error {
	if r.URL.Query().Has("dry_run") {
		return badParameter("dry_run: want it with PUT only")
	}
	if r.Header.Get("If-None-Match") != "" {
		return badParameter("if-none-match: %q, want it with PUT only", r.Header.Get("If-None-Match"))
	}
	want, err := preconditionOf(r)
	if err != nil {
		return err
	}
	store, err := storeOf(api.store)
	if err != nil {
		return err
	}
	ctx, cancel := etcdContext(r)
	defer cancel()
	name := r.PathValue("name")
	opts, err := want.options(ctx, store, name)
	if err != nil {
		return err
	}
	found, err := store.Delete(ctx, name, opts...)
	if err != nil {
		return storeProblem(err)
	}
	if !found {
		return notFound("route %s: not found in etcd", name)
	}
	api.log.Info("admin: route deleted", "route", name, "from", r.RemoteAddr)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

package admin

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/framegate/framegate/resolver/etcdstore"
)

// precondition is the condition under which a request changes a route (RFC 9110 §13.1). The ETag of a route is its revision
// in etcd.
type precondition struct {
	conditional bool  // false: there is no condition
	revision    int64 // the revision that the route must be at; 0: it must not exist; anyRevision: it must exist
}

const anyRevision = -1

// etag returns the entity tag of a revision. It is a strong one (RFC 9110 §8.8.1), because a revision has one document.
func etag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

// preconditionOf reads If-Match, which is one entity tag or *, or If-None-Match, which can only be *.
func preconditionOf(r *http.Request) (precondition, error) {
	match, none := r.Header.Values("If-Match"), r.Header.Values("If-None-Match")
	switch {
	case len(match)+len(none) == 0:
		return precondition{}, nil
	case len(match)+len(none) > 1:
		return precondition{}, badParameter("if-match: %q beside if-none-match: %q, want one of the two, once", match, none)
	case len(none) > 0:
		if none[0] != "*" {
			return precondition{}, badParameter("if-none-match: %q, want *", none[0])
		}
		return precondition{conditional: true}, nil
	case match[0] == "*":
		return precondition{conditional: true, revision: anyRevision}, nil
	}
	tag, quoted := strings.CutPrefix(match[0], `"`)
	tag, closed := strings.CutSuffix(tag, `"`)
	revision, err := strconv.ParseInt(tag, 10, 64)
	if !quoted || !closed || err != nil || revision < 1 {
		return precondition{}, badParameter("if-match: %s, want the ETag of a route, such as \"42\" in its quotes, or *", strconv.Quote(match[0]))
	}
	return precondition{conditional: true, revision: revision}, nil
}

// options returns the precondition as options of a write of the route.
func (p precondition) options(ctx context.Context, store *etcdstore.Routes, name string) ([]etcdstore.WriteOption, error) {
	if !p.conditional {
		return nil, nil
	}
	if p.revision != anyRevision {
		return []etcdstore.WriteOption{etcdstore.IfRevision(p.revision)}, nil
	}
	var bad *etcdstore.DocumentError
	stored, err := store.Get(ctx, name)
	switch {
	case err == nil:
		return []etcdstore.WriteOption{etcdstore.IfRevision(stored.Revision)}, nil
	case errors.As(err, &bad):
		return []etcdstore.WriteOption{etcdstore.IfRevision(bad.Revision)}, nil
	case errors.Is(err, etcdstore.ErrNotFound):
		return nil, &problem{status: http.StatusPreconditionFailed, Reason: reasonConflict, Message: "if-match: *: " + err.Error()}
	}
	return nil, storeProblem(err)
}

package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/plain"
)

// The reasons of errors. Clients tell errors apart by them; openapi.json lists them.
const (
	reasonBadParameter         = "bad_parameter"          // 400: in the query, the path or a header
	reasonBadDocument          = "bad_document"           // 400: in the body
	reasonUnauthorized         = "unauthorized"           // 401
	reasonHostNotAllowed       = "host_not_allowed"       // 403
	reasonCrossSite            = "cross_site"             // 403
	reasonNotFound             = "not_found"              // 404
	reasonMethodNotAllowed     = "method_not_allowed"     // 405
	reasonConflict             = "conflict"               // 412: not at the revision that was wanted; 409: others changed it at each try
	reasonTooLarge             = "too_large"              // 413
	reasonUnsupportedMediaType = "unsupported_media_type" // 415
	reasonInternal             = "internal"               // 500
	reasonNoEtcd               = "no_etcd"                // 501
	reasonNotProvided          = "not_provided"           // 501
	reasonEtcdRefused          = "etcd_refused"           // 502
	reasonEtcdUnavailable      = "etcd_unavailable"       // 503: nothing was changed
	reasonOutcomeUnknown       = "outcome_unknown"        // 504: the change may have been made
	reasonTooMany              = "too_many"               // 503: too many open taps, or other requests
)

// ErrNoEtcd means that this framegate runs without etcd, so that nothing can be stored through it. RouteStore and
// ServiceStore of Control return it.
var ErrNoEtcd = errors.New("this framegate runs without etcd: change the routes file, or set etcd.endpoints")

// problem is an error with the status and the JSON document that the client gets.
type problem struct {
	status  int
	Reason  string `json:"reason"`
	Message string `json:"message"` // the key, the value and what was wanted
	cause   error  // may be nil
}

func (p *problem) Error() string { return p.Reason + ": " + p.Message }

func (p *problem) Unwrap() error { return p.cause }

func badParameter(format string, args ...any) error {
	return &problem{status: http.StatusBadRequest, Reason: reasonBadParameter, Message: fmt.Sprintf(format, args...)}
}

func badDocument(err error) error {
	return &problem{status: http.StatusBadRequest, Reason: reasonBadDocument, Message: err.Error()}
}

func notFound(format string, args ...any) error {
	return &problem{status: http.StatusNotFound, Reason: reasonNotFound, Message: fmt.Sprintf(format, args...)}
}

// notProvided returns the error for a request that needs a function that Config leaves out.
func notProvided(what string) error {
	return &problem{status: http.StatusNotImplemented, Reason: reasonNotProvided, Message: what + ": not provided by this framegate"}
}

// noStore returns the problem for an error of Control.RouteStore or Control.ServiceStore.
func noStore(err error) error {
	p := &problem{status: http.StatusServiceUnavailable, Reason: reasonEtcdUnavailable, Message: err.Error(), cause: err}
	if errors.Is(err, ErrNoEtcd) {
		p.status, p.Reason = http.StatusNotImplemented, reasonNoEtcd
	}
	return p
}

// storeProblem returns the problem for an error of a method of a store.
func storeProblem(err error) error {
	p := &problem{Message: err.Error(), cause: err}
	var moved *etcdclient.ConflictError
	var invalid *etcdstore.InvalidError
	switch {
	case errors.As(err, new(*etcdclient.UnknownOutcomeError)):
		p.status, p.Reason = http.StatusGatewayTimeout, reasonOutcomeUnknown
		p.Message += "; get it to see"
	case errors.As(err, &invalid):
		return badDocument(invalid)
	case errors.Is(err, etcdstore.ErrNotFound):
		p.status, p.Reason = http.StatusNotFound, reasonNotFound
	case errors.As(err, &moved):
		p.status, p.Reason = http.StatusPreconditionFailed, reasonConflict
	case errors.Is(err, etcdclient.ErrConflict):
		p.status, p.Reason = http.StatusConflict, reasonConflict
	case errors.Is(err, rpctypes.ErrRequestTooLarge):
		p.status, p.Reason = http.StatusRequestEntityTooLarge, reasonTooLarge
	case etcdclient.IsUnavailable(err), errors.Is(err, context.Canceled):
		p.status, p.Reason = http.StatusServiceUnavailable, reasonEtcdUnavailable
	default:
		p.status, p.Reason = http.StatusBadGateway, reasonEtcdRefused
	}
	return p
}

// fail answers with err. An error that is neither a problem nor a body over the limit is a bug or a failing disk: it is
// logged, and the client gets a 500 without its text.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var p *problem
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &p):
	case errors.As(err, &tooLarge):
		p = &problem{status: http.StatusRequestEntityTooLarge, Reason: reasonTooLarge, Message: fmt.Sprintf("body: want at most %d bytes", tooLarge.Limit)}
	default:
		s.log.Error("admin request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		p = &problem{status: http.StatusInternalServerError, Reason: reasonInternal, Message: "it is in the log of framegate"}
	}
	p.Message = clip(plain.WithoutPasswords(p.Message))
	if p.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="framegate admin"`)
	}
	if err := writeJSON(w, p.status, struct {
		Error *problem `json:"error"`
	}{p}); err != nil {
		s.log.Debug("admin answer not sent", "error", err)
	}
}

// maxMessageBytes bounds the message of an error. It has room for strict.MaxErrors mistakes of a document.
const maxMessageBytes = 64 << 10

func clip(message string) string {
	if len(message) <= maxMessageBytes {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessageBytes], "") + "..."
}

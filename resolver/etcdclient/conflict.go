package etcdclient

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// MaxConflicts bounds how often a write starts again because another client changed the same keys meanwhile.
const MaxConflicts = 10

// ErrConflict means that other clients changed the same keys during each of MaxConflicts tries of a write. Nothing was
// written; try again. A *ConflictError is one too.
var ErrConflict = errors.New("changed by others meanwhile, try again")

// ConflictError means that a route is not at the revision that IfRevision wants: it was changed after it was read. Nothing
// was stored or deleted; read the route again, and decide anew.
type ConflictError struct {
	Name string
	Want int64 // 0: the route must not exist
	Got  int64 // 0: the route does not exist
}

func (e *ConflictError) Error() string {
	switch {
	case e.Got == 0:
		return fmt.Sprintf("route %s: does not exist, want revision %d: somebody deleted it, or it never was", e.Name, e.Want)
	case e.Want == 0:
		return fmt.Sprintf("route %s: is at revision %d, want that it does not exist: somebody created it; get it first", e.Name, e.Got)
	}
	return fmt.Sprintf("route %s: is at revision %d, want %d: somebody changed it; get it again", e.Name, e.Got, e.Want)
}

// Is implements errors.Is: a ConflictError is an ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// IsTooLarge reports whether etcd, or its client before the request was sent, refused a request for its size.
func IsTooLarge(err error) bool {
	var answer rpctypes.EtcdError
	if errors.As(err, &answer) {
		return errors.Is(err, rpctypes.ErrRequestTooLarge)
	}
	return status.Code(err) == codes.ResourceExhausted
}

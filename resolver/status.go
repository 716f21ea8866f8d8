package resolver

import (
	"time"

	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
)

// RouteStatus is the status of one route's document in a source.
type RouteStatus struct {
	Name     string
	Source   string      // etcdsource.Name, filesource.Name
	Route    *spec.Route // the version in force; nil if none is
	Revision int64       // etcd's, of the version in force; 0 for other sources
	Latest   int64       // etcd's, of the last version, good or bad
	Err      error       // why the last version is not in force; nil if it is
}

// SchemaStatus is the status of one schema's document.
type SchemaStatus struct {
	Name     string
	Schema   *schema.Schema // the version in force; nil if none is
	Revision int64          // etcd's, of the version in force
	Latest   int64          // etcd's, of the last version, good or bad; 0 if it was deleted
	Err      error          // why the last version is not in force; nil if it is
}

// SourceStatus compares the documents in force with those that the source has.
type SourceStatus struct {
	Revision   int64     // etcd's: all changes up to it are in force; 0 if none is
	Confirmed  time.Time // when the source last said that it has nothing newer; zero if never
	Stale      bool      // the source cannot be reached now, so what is in force may be old
	Reason     string    // why the source cannot be reached; empty if it can
	Rejected   int       // documents whose last version is not in force because it is bad or does not fit
	Rejections int64     // such versions seen since the start

	SnapshotWritten  time.Time // when the snapshot was last written; zero if it never was
	SnapshotFailures int64     // times that the snapshot could not be written, since the start
}

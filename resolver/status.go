package resolver

import (
	"time"

	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
)

// RouteStatus says what became of one document of routes, of whatever source.
type RouteStatus struct {
	Name     string
	Source   string      // etcdsource.Name, filesource.Name
	Route    *spec.Route // in force; nil if no version of the document is
	Revision int64       // etcd's, of the version in force; 0 for other sources
	Latest   int64       // etcd's, of the last version, good or bad
	Err      error       // what is wrong with the last version; nil if it is in force
}

// SchemaStatus says what became of one document of schemas.
type SchemaStatus struct {
	Name     string
	Schema   *schema.Schema // in force; nil if no version of the document is
	Revision int64          // etcd's, of the version in force
	Latest   int64          // etcd's, of the last version, good or bad; 0 if it was deleted
	Err      error          // what is wrong with the last version; nil if it is in force
}

// SourceStatus says how what is in force relates to what the source has.
type SourceStatus struct {
	Revision   int64     // etcd's, up to which everything is in force; 0 if nothing is
	Confirmed  time.Time // when the source last said so; zero if never
	Stale      bool      // the source cannot be reached now: what is in force may be old
	Reason     string    // why it cannot
	Rejected   int       // documents whose last version is bad
	Rejections int64     // bad versions seen since the start

	SnapshotWritten  time.Time // when the snapshot was last written; zero if it never was
	SnapshotFailures int64     // times that it could not be, since the start
}

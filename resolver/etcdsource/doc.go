// Package etcdsource keeps the routes and the registered instances in etcd in force.
//
// Enter at Source.Run. For routes, schemas and instances it has a follower each, which reads all documents and then watches
// (follower.go, watch.go, probe.go); bindings.go joins routes and schemas, waiting_routes.go lets routes wait for the names of
// their endpoints, keep.go with hold.go and losses.go keeps instances that vanish while etcd is in trouble. snapshot.go and
// stand_in.go have the last good state for a start without etcd, reachability.go says whether etcd can be used.
package etcdsource

// Package resolver answers, from memory and without blocking, which route a call takes and which endpoint it gets.
//
// Enter at Resolver.Resolve. Its parts are packages of their own, none of which imports one below it in this list:
//
//	spec        the documents that people write: routes, backends and their policies, instances
//	match       which route a call gets: tables of match entries, explanations, plans of changes
//	cluster     which endpoint a call gets: clusters of endpoints, their health, limits, Target and Attempt
//	resolver    joins the three: Resolver, and the programs of its routes
//	filesource  applies the routes of a file
//	etcdclient  connects to etcd, and writes there
//	etcdstore   reads and changes the routes, schemas and instances in etcd
//	etcdsource  applies the routes and instances in etcd, and follows their changes
//
// A source, which is a file or etcd, applies documents by Resolver.Apply, Update and SetInstances. README.md says what a
// cluster is, and when a version of a document is in force. A new version takes the place of the one in force in a single step;
// a call keeps the versions that it began with. The program of a route is its rules and schema in compiled form.
package resolver

// Package etcdclient makes the clients with which all of framegate reaches etcd.
//
// Enter at New. Members of etcd may hang, be behind the others, or have no leader for a while: alive.go closes connections
// whose peer does not answer, question.go asks several members, place.go moves a watch to another member, and write.go
// repeats a write until etcd has told its outcome.
package etcdclient

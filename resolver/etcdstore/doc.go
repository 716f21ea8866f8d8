// Package etcdstore reads and changes what framegate has in etcd.
//
// Enter at Routes (routes.go, put.go, plan.go, history.go), Schemas, and Services with Registration, which keeps an instance
// registered (heartbeat.go, weight.go, notes.go). instance_key.go has the layout of registry-etcd's keys.
package etcdstore

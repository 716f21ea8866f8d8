// Package etcdstore reads and changes framegate's documents in etcd: routes, schemas and registered instances.
//
// Enter at Routes (routes.go, put.go, plan.go, history.go), Schemas (schemas.go) and Services (services.go, weight.go), with
// Registration, which keeps an instance registered (registration.go, heartbeat.go, leaving.go). notes.go and instance_key.go
// have the layout of instances and their keys, which is registry-etcd's.
package etcdstore

// Package local has the local errors: the statuses that framegate makes itself. Each carries the trailer framegate-error
// with its Reason. Statuses of endpoints are forwarded unchanged and do not carry it.
package local

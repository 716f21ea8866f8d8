// Package local has the statuses that framegate makes itself. Each carries the trailer framegate-error with its Reason, which
// those of endpoints, that pass unchanged, do not have.
package local

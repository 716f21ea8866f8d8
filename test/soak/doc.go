// Package soak puts a framegate under a mixed load for a long time, restarts its backend again and again, and checks that its
// memory, goroutines and open files do not grow.
//
// Enter at soak_test.go; then mix.go, the kinds of calls; paced.go, which makes them; sample.go, what is measured; flat.go,
// what counts as growth. soak.sh runs it for half an hour, the test suite for 16 seconds.
package soak

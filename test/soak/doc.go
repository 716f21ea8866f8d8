// Package soak holds a framegate under a mixed load for long, restarts what is behind it all the time, and looks
// whether it grows.
//
// Enter at soak_test.go; then mix.go, the kinds of calls; paced.go, which makes them; sample.go and flat.go, what is
// looked at and when it counts as growth. soak.sh runs it for half an hour, the test suite for 24 seconds.
package soak

//go:build !race

package soak

import "time"

// What the test suite runs; soak.sh runs it for longer.
const (
	duration     = time.Minute
	restartEvery = 5 * time.Second
	rssSlack     = 8 << 20
)

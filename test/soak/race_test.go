//go:build race

package soak

import "time"

// The race detector makes everything slower, and keeps what it knows of each goroutine and each address.
const (
	duration     = 18 * time.Second
	restartEvery = 3 * time.Second
	rssSlack     = 96 << 20
)

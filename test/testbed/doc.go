// Package testbed gives end-to-end tests real peers on loopback addresses: a framegate, gRPC servers and clients of grpc-go
// and Kitex, and a raw HTTP/2 client and server, whose every frame the test sends and sees.
//
// Enter at NewProxy (proxy.go); then h2conn.go and h2stream.go, the raw peers; grpcgo.go, interop.go and kitex.go, the
// libraries' peers. Everything made by a New or Dial function is closed by t.Cleanup, clients before servers, because a test
// makes its servers first. Nothing sleeps: the functions wait for events, at most for Patience.
package testbed

import "time"

// Patience bounds every wait for an event. It is long enough for a loaded machine under the race detector. A test that
// measures how long something takes does that itself.
const Patience = 10 * time.Second

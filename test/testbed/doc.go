// Package testbed gives end-to-end tests real peers on 127.0.0.1: a framegate, gRPC servers and clients of grpc-go and
// Kitex, and an HTTP/2 client and server of which a test sees and sends every frame.
//
// Enter at NewProxy (proxy.go); then h2conn.go and h2stream.go, the raw peers; grpcgo.go, interop.go and kitex.go, the
// libraries' peers. Everything made by a New or Dial function is closed by t.Cleanup, clients before servers, because
// a test makes its servers first. Nothing sleeps: what must happen is awaited for at most Patience.
package testbed

import "time"

// Patience bounds the wait for anything that must happen. It is long enough for a loaded machine under the race
// detector; what a test measures, it measures by itself.
const Patience = 10 * time.Second

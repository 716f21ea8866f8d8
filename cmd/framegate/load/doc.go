// Package load puts load on an echo.Echo service (idl/echo.proto) through Kitex gRPC clients and measures throughput,
// latencies and errors. It is the engine of `framegate bench`.
//
// Enter at Run (run.go); then slice.go, one stretch of load on one address, and worker.go, the loop that every worker runs.
// call.go has the four kinds of call, pacer.go the constant rate, recorder.go the measurements, result.go what is reported.
//
// The words of the package:
//
//   - A side is an address under load: the target, and the baseline if there is one. With a baseline the sides take turns, a slice
//     each, so that a machine that drifts during the run drifts for both.
//   - A slice is a warm-up and then a window. A call belongs to the window if it was begun (or, at a constant rate, was due) inside it,
//     however long it takes: its latency or its error counts. Throughput counts the calls that ended inside the window, so that a
//     single stuck call does not stretch the time that the others are divided by.
//   - In the bidi mode a call is one round trip on a stream that stays open for the slice; in the others it is a whole RPC.
package load

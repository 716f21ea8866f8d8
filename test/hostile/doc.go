// Package hostile sends framegate what no honest peer sends, from clients and from endpoints, while honest clients go on. What
// RFC 9113 has an answer for gets that answer: an error of a stream costs only the stream, and an error of the connection only
// the connection. The honest calls are all answered in time, and nothing is left behind.
//
// Enter at attacks_test.go, which has the tests; then world_test.go: a world has a framegate and the honest load, and checks what
// must hold in all tests (bar_test.go, usage_test.go). The attacks of clients:
//
//   - frames: preface_test.go, frames_test.go, sizes_test.go, windows_test.go
//   - requests: requests_test.go, messages_test.go, headers_test.go
//   - too much: floods_test.go, resets_test.go
//   - too slow, too many: slow_test.go, crowd_test.go
//
// and those of endpoints: endpoint_test.go (answers), endpoint_frames_test.go, endpoint_goaway_test.go, endpoint_silence_test.go. In
// unread_test.go peers of both kinds do not read. peer_test.go and hole_test.go have what peers are made of.
//
// Calls are attacked in both of the ways in which framegate forwards them; see way.
package hostile

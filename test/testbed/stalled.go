package testbed

import (
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
)

// NewStalled starts a backend that takes connections and speaks HTTP/2 until both sides know each other's SETTINGS, and then
// neither reads nor writes. It returns the backend's address.
func NewStalled(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var all []net.Conn
		for {
			nc, err := ln.Accept()
			if err != nil {
				break
			}
			all = append(all, nc)
			stall(nc)
		}
		for _, nc := range all {
			nc.Close()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln.Addr().String()
}

// stall speaks HTTP/2 up to the acknowledgement of the client's SETTINGS.
func stall(nc net.Conn) {
	f := http2.NewFramer(nc, nc)
	if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	if f.WriteSettings() != nil {
		return
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		if s, ok := frame.(*http2.SettingsFrame); ok && !s.IsAck() {
			_ = f.WriteSettingsAck() // the test sees what comes of it if it fails
			return
		}
	}
}

package etcdsource

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/pool/dial"
	"github.com/framegate/framegate/resolver/spec"
)

// speaksHTTP2 reports why no HTTP/2 connection to an endpoint can be made in that time, or nil. That a connection is taken
// says little: the kernel does that for a process that hangs.
func speaksHTTP2(ctx context.Context, dialer *net.Dialer, address string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	conn, err := dial.Endpoint(ctx, dialer, strings.TrimPrefix(address, spec.DNSPrefix))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return err
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		return err
	}
	f, err := framer.ReadFrame()
	if err != nil {
		return fmt.Errorf("no HTTP/2 settings in %s: %w", within, err)
	}
	if f.Header().Type != http2.FrameSettings {
		return fmt.Errorf("no HTTP/2 settings, but %s", f.Header().Type)
	}
	return nil
}

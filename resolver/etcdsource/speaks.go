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

// speaksHTTP2 connects to an endpoint and waits for its HTTP/2 SETTINGS, within that time. The error says why there are
// none. A TCP connection alone proves little, because the kernel accepts it even if the process hangs.
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
